"""The use cases: each one transaction."""

from collections.abc import Awaitable, Callable
from typing import Any

from tidings.messaging.store.unit import Unit

__all__ = ["Answer", "Record"]

Answer = dict[str, Any]
"""What the caller is answered, in the shape of the wire in use."""

Record = Callable[[Unit, Answer], Awaitable[None]]
"""Called with the answer at the end of the work, inside its transaction; what it raises undoes the work."""
