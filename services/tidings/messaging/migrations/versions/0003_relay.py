"""Which producer each of the relay's shards was written with last."""

from tidings.messaging.migrations.script import run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Run the script of the same name."""
    run_script(__file__)
