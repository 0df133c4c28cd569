"""A version whose work is a script of SQL beside it."""

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

__all__ = ["run_script"]


def run_script(version: str) -> None:
    """Run the `.sql` file of the same name as this version's file, inside the transaction of the migration."""
    script = Path(version).with_suffix(".sql").read_text(encoding="utf-8")
    bind = op.get_bind()
    # SQLAlchemy begins its transaction with the first statement of its own; the script goes to the driver directly,
    # which alone takes several statements at once.
    bind.exec_driver_sql("SELECT 1")
    driver = bind.connection.driver_connection
    assert driver is not None
    await_only(driver.execute(script))
