"""All tables of the model."""

from tidings.messaging.migrations.script import run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run the script of the same name."""
    run_script(__file__)
