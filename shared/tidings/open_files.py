"""How many files this process may have open: as many as it can get, for each connection is one."""

import resource
from typing import Final

__all__ = ["most_open_files"]

_UNBOUNDED: Final = 1 << 20


def most_open_files() -> int:
    """Raise the soft limit to the hard one, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else _UNBOUNDED
