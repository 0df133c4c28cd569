"""What people chose to be called, nothing included, apart from what was never chosen."""

from tidings.messaging.migrations.script import run_script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Run the script of the same name."""
    run_script(__file__)
