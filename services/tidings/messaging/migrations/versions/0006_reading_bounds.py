"""Indexes by which reading costs what it shows."""

from tidings.messaging.migrations.script import run_script

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Run the script of the same name."""
    run_script(__file__)
