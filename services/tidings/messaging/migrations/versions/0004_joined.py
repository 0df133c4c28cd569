"""Since which transaction a member is one."""

from tidings.messaging.migrations.script import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run the script of the same name."""
    run_script(__file__)
