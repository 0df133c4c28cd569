"""`tidings token`: a token for a user, and nothing else on stdout."""

import os
from pathlib import Path

import click

from tidings.cli.state import make_token, token_secret

__all__ = ["token"]


@click.command(short_help="Print a token for a user.")
@click.argument("user")
@click.option("--name", help="Put this into the claim `name`.")
@click.option("--ttl", "ttl_s", default=3600.0, show_default=True, help="Seconds until it ends.", metavar="SECONDS")
@click.pass_obj
def token(state_dir: Path, user: str, name: str | None, ttl_s: float) -> None:
    """Print a token with which USER (an id as in a record's receivers) may connect; prints nothing else.

    Signed (HS256) with TIDINGS_JWT_SECRET, or with the secret that `tidings up` made here. The claims follow
    TIDINGS_JWT_USER_CLAIM, TIDINGS_JWT_AUDIENCE and TIDINGS_JWT_ISSUER.

    \b
    Example:
      curl -N -H "Authorization: Bearer $(tidings token alice)" http://127.0.0.1:8080/sse
    """
    click.echo(make_token(user, token_secret(state_dir, os.environ), os.environ, ttl_s=ttl_s, name=name))
