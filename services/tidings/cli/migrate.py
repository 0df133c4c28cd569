"""`tidings migrate`: bring the messaging service's database to the version that this release needs."""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from tidings.cli.state import read_state
from tidings.config import PostgresSettings, load
from tidings.errors import DatabaseUnavailable

__all__ = ["migrate"]

_VARIABLE = "TIDINGS_POSTGRES_DSN"


@click.command(short_help="Bring the database to the version that this release needs.")
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if versions are missing.")
@click.pass_obj
def migrate(state_dir: Path, check: bool) -> None:
    """Bring the database to the version that this release needs, all in one transaction.

    The database is the one that TIDINGS_POSTGRES_DSN names, else that of a running `tidings up`. Run it before the
    release's processes start; two at once are safe, and the processes of the release before keep working.

    \b
    Examples:
      TIDINGS_POSTGRES_DSN=postgresql://tidings@db/tidings tidings migrate
      tidings migrate --check
    """
    from tidings.messaging import migrating
    from tidings.postgres.databases import ask, place_of

    dsn = _dsn(state_dir, os.environ)
    try:
        version = ask(dsn, migrating.current)
        missing = migrating.missing(version)
        if not check:
            applied = migrating.migrate(dsn)
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(f"Postgres at {place_of(dsn)}: {error}") from error
    if check:
        if missing:
            click.echo(f"the database has {_named(version)}; missing: {' '.join(missing)}")
            raise SystemExit(1)
        click.echo(f"nothing to do: the database has {_named(version)}")
    elif applied:
        click.echo(f"the database had {_named(version)}; applied: {' '.join(applied)}")
    else:
        click.echo(f"nothing to do: the database has {_named(version)}")


def _named(version: str | None) -> str:
    return f"version {version}" if version else "no tables of ours"


def _dsn(state_dir: Path, environ: Mapping[str, str]) -> str:
    if not environ.get(_VARIABLE, "").strip() and (state := read_state(state_dir)) is not None and state.postgres:
        return state.postgres
    (settings,) = load(PostgresSettings, environ=environ)
    return settings.dsn.get_secret_value()
