"""What `/sync` asks for."""

from tidings.messaging.migrations.script import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Run the script of the same name."""
    run_script(__file__)
