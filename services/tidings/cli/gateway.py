"""`tidings gateway`: one gateway node in this process."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tidings.config import SettingsGroup

__all__ = ["gateway", "show_settings"]


@click.command(short_help="Run one gateway node (production).")
@click.option("--print-settings", is_flag=True, help="Show each of its settings with value and source, then exit.")
def gateway(print_settings: bool) -> None:
    """Run one gateway node until SIGTERM. All settings come from the environment (TIDINGS_*).

    Nodes need no knowledge of each other: start as many as you like behind a load balancer. The first SIGTERM drains
    (clients are asked to reconnect elsewhere), a second one ends the process at once.

    \b
    Example:
      TIDINGS_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 TIDINGS_JWT_JWKS_URL=https://login.example/jwks tidings gateway
    """
    if print_settings:
        from tidings.config import GatewaySettings, JwtSettings, KafkaSettings, LogSettings, TopicSettings

        show_settings(KafkaSettings, TopicSettings, JwtSettings, GatewaySettings, LogSettings)
        return
    from tidings.gateway.app import run

    raise SystemExit(run())


def show_settings(*wanted: "type[SettingsGroup]") -> None:
    """Print every setting of these groups with its value and source; warnings and faults go to stderr.

    Args:
        wanted: Those that the service itself loads, so that a fault is told here if and only if it keeps the service
            from starting.
    Raises:
        SystemExit: 2 if a setting can't be used.
    """
    from tidings.config import load, render, warnings
    from tidings.errors import ConfigError

    try:
        groups = load(*wanted)
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from None
    click.echo(render(*groups))
    for line in warnings():
        click.echo(f"warning: {line}", err=True)
