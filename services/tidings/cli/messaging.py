"""`tidings messaging`: one process of the messaging service."""

import click

from tidings.cli.gateway import show_settings

__all__ = ["messaging"]


@click.command(short_help="Run one process of the messaging service (production).")
@click.option("--print-settings", is_flag=True, help="Show each of its settings with value and source, then exit.")
def messaging(print_settings: bool) -> None:
    """Run one process of the messaging service until SIGTERM. All settings come from the environment (TIDINGS_*).

    Start as many as you like on one database, behind a load balancer: they share the work of bringing what happened to
    Kafka. The database is prepared by `tidings migrate`. The first SIGTERM finishes the requests under way and hands
    the work over, a second one ends the process at once.

    \b
    Example:
      TIDINGS_POSTGRES_DSN=postgresql://tidings@db/tidings TIDINGS_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 \\
        TIDINGS_JWT_JWKS_URL=https://login.example/jwks tidings messaging
    """
    if print_settings:
        from tidings.config import (
            JwtSettings,
            KafkaSettings,
            LogSettings,
            MessagingSettings,
            PostgresSettings,
            TopicSettings,
        )

        show_settings(KafkaSettings, TopicSettings, JwtSettings, PostgresSettings, MessagingSettings, LogSettings)
        return
    from tidings.messaging.app import run

    raise SystemExit(run())
