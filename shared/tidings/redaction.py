"""What may stand in a log: nothing that looks like a token, password or cookie, and nothing without an end.

Pure, so that every pattern is tested without a log. Redaction looks at text, whoever wrote it: a library's exception
that quotes a request is as safe as our own fields.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["HIDDEN", "bounded", "is_secret_name", "plain", "redact"]

HIDDEN: Final = "[redacted]"

# Each pattern stands behind words of which one must occur (lower case), because most lines hold none of them. None may
# begin in the middle of a long run of characters that it would scan to the end: that costs the square of the length.
_PATTERNS: Final[tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...]] = (
    # Three parts first, with whatever hangs in front of them.
    ((".",), re.compile(r"(?<![\w-])(?:[\w-]{10,}\.){2}[\w-]{40,}"), HIDDEN),
    # A JWT begins with the base64url of `{` and then a quote or blank (ey…), a line break or a tab (ew…).
    (("ey", "ew"), re.compile(r"(?<![\w-])e(?:y[A-DI-L]|w[k-r0-3])[\w-]{8,}={0,2}\.[\w=-]*(?:\.[\w=-]*)?"), HIDDEN),
    (("bearer",), re.compile(r"(?i)(?<![\w-])(bearer[\s.]+)[^\s,;\"'<>]{8,}"), rf"\1{HIDDEN}"),
    (
        ("token", "secret", "passw", "api"),
        re.compile(
            r"(?i)((?>(?:token|secret|password|passwd|api_?key)(?:[\"']?\s*(?:=|%3d)|[\"']\s*:)\s*[\"']?))"
            r"(?!\[redacted\])[^\s&;,\"'<>()]+"
        ),
        rf"\1{HIDDEN}",
    ),
    (
        ("authorization", "cookie", "x-internal-token"),
        re.compile(
            r"(?i)((?>(?:authorization|cookie|x-internal-token)(?:[\"']?\s*[:=]|[\"']\s*,)\s*(?:b(?=[\"']))?[\"']?))"
            r"(?!\[redacted\])[^\r\n\"']+"
        ),
        rf"\1{HIDDEN}",
    ),
    (("@",), re.compile(r"(://)[^\s/:@\"']*:[^\s/@\"']+@"), rf"\1{HIDDEN}@"),
)
_SECRET_FIELD: Final = re.compile(r"(?i)(^|[_-])(token|jwt|secret|password|passwd|authorization|cookie|api_?key)$")


def redact(text: str) -> str:
    """The text without what looks like a token, password or cookie. Cost: linear; about 5 µs for 100 characters."""
    lower = text.lower()
    for words, pattern, replacement in _PATTERNS:
        if any(word in lower for word in words):
            text = pattern.sub(replacement, text)
    return text


def plain(value: object, limit: int, depth: int = 0) -> Any:
    """The value as a renderer can write it: redacted, strings of at most `limit` characters, nothing but JSON's types.

    Never raises, whatever the value's own methods do. Of mappings and sequences the first 50 entries, four levels deep.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        fits = -(1 << 63) <= value < 1 << 63  # what every reader of JSON can take
        return value if fits else bounded(hex(value), limit)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return bounded(value, limit)
    if isinstance(value, bytes | bytearray | memoryview):
        return bounded(bytes(value[: limit * 2]).decode("utf-8", "backslashreplace"), limit)
    if depth < 4 and isinstance(value, Mapping):
        items = list(value.items())[:50]
        return {
            bounded(str(k), 200): HIDDEN if is_secret_name(k, v) else plain(v, limit // 2, depth + 1) for k, v in items
        }
    if depth < 4 and isinstance(value, list | tuple | set | frozenset):
        return [plain(part, limit // 2, depth + 1) for part in list(value)[:50]]
    try:
        return bounded(repr(value), limit)
    except Exception as error:  # noqa: BLE001, RUF100 - a broken __repr__ must not break the caller
        return f"<{type(value).__name__}: {type(error).__name__} in repr>"


def is_secret_name(name: object, value: object) -> bool:
    return (
        isinstance(name, str) and not isinstance(value, bool | int | float | None) and bool(_SECRET_FIELD.search(name))
    )


def bounded(text: str, limit: int) -> str:
    """Redacted, and cut to `limit` characters with a note of how long it was."""
    # Redacted before it is cut (a cut token is not recognised), but hostile sizes don't reach the patterns.
    seen = redact(text[: limit * 4])
    return seen if len(text) <= limit * 4 and len(seen) <= limit else f"{seen[:limit]}… ({len(text)} characters)"
