"""Where a client of `tidings tail` is in the log, so that it comes back to the same place."""

import json
from urllib.parse import urlencode

__all__ = ["Place"]


class Place:
    """The cursor of one stream, from the frames that came."""

    def __init__(self) -> None:
        self._log = ""
        self._positions: dict[str, str] = {}
        self.event_id = ""
        """Of Server-Sent Events: what to send as Last-Event-ID."""

    def note(self, text: str) -> None:
        """A frame of `tidings.v1` came; others say nothing of a place."""
        try:
            frame = json.loads(text)
            data = frame.get("data")
        except (ValueError, AttributeError):
            return
        if isinstance(data, dict) and frame.get("type") in {"$welcome", "$checkpoint", "$resync"}:
            self._log = str(data.get("log", self._log))
            cursor = str(data.get("cursor", ""))
            self._positions = dict(entry.split(":", 1) for entry in cursor.split(",") if ":" in entry)
        elif isinstance(at := frame.get("at"), str) and ":" in at:
            partition, offset = at.split(":", 1)
            self._positions[partition] = offset

    def query(self) -> str:
        """What to add to the address, with its question mark; empty as long as nothing is known."""
        if not self._positions:
            return ""
        cursor = ",".join(f"{partition}:{offset}" for partition, offset in self._positions.items())
        return "?" + urlencode({"cursor": cursor, "log": self._log}, safe=":,")
