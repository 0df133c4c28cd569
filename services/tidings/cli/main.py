"""The command `tidings`: one group, one module per command, loaded when it is used."""

import os
import select
import sys
from pathlib import Path
from typing import Any, TextIO

import click

from tidings.errors import TidingsError

__all__ = ["main"]

# The command, and the module that holds it under the same name; a module is imported when its command is asked for,
# so that `tidings token` does not wait for Kafka's libraries.
_COMMANDS = {
    "up": "tidings.cli.up",
    "gateway": "tidings.cli.gateway",
    "messaging": "tidings.cli.messaging",
    "migrate": "tidings.cli.migrate",
    "topics": "tidings.cli.topics",
    "token": "tidings.cli.token",
    "produce": "tidings.cli.produce",
    "tail": "tidings.cli.tail",
    "doctor": "tidings.cli.doctor",
    "bench": "tidings.cli.bench.command",
    "page": "tidings.cli.page",
}


class _Lazy(click.Group):
    """Commands by name from `_COMMANDS`; what Tidings raises on purpose is shown in its own words, no traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        import importlib

        command = getattr(importlib.import_module(_COMMANDS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TidingsError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError as error:
            if not _abandoned(sys.stdout):  # click would take it for that, and say nothing
                raise click.ClickException(f"a connection broke: {error}") from error
            # `tidings tail | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None


def _abandoned(output: TextIO) -> bool:
    """Whether it is a pipe, or a socket, that nobody reads any more."""
    poll = select.poll()
    poll.register(output, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--state-dir",
    envvar="TIDINGS_UP_STATE_DIR",
    default=".tidings",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where `tidings up` keeps its data and says what is running; the other commands look there.",
)
@click.version_option(package_name="tidings", prog_name="tidings")
@click.pass_context
def cli(ctx: click.Context, state_dir: Path) -> None:
    """Carry what happens in a chat from a Kafka topic to every connection of everybody it concerns.

    \b
    A first try, in three terminals:
      tidings up                  Kafka, Postgres, two gateway nodes, the messaging service and a demo page
      tidings tail alice          connect as alice to both nodes and watch
      tidings produce --to alice --data '{"text":"Hello"}'
    """
    ctx.obj = state_dir


def main() -> None:
    """The entry point of the installed command and of `python -m tidings.cli`."""
    cli(prog_name="tidings")
