"""Blocks outlive their chats; kept answers say which update they are about."""

from tidings.messaging.migrations.script import run_script

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Run the script of the same name."""
    run_script(__file__)
