"""Logs: one structured line per event, from us and from the libraries, and never a token in one.

`setup` once at the start; then `log = structlog.get_logger(__name__)` and `log.info("what_happened", partition=3)`, or
the standard `logging`, whose records take the same way. Lines are formatted where they are logged and written by a
thread of their own: a terminal or pipe that nobody reads never holds the event loop.
"""

import json
import logging
import queue
import re
import sys
import threading
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TextIO

import orjson
import structlog

from tidings.log_limit import LogLimiter
from tidings.redaction import HIDDEN, bounded, is_secret_name, plain, redact

__all__ = ["LogLimiter", "Stopper", "redact", "setup"]

MAX_FIELD_CHARS: Final = 2_048
MAX_TRACE_CHARS: Final = 8_192
MAX_LINE_CHARS: Final = 16_384
"""Under what common collectors cut or split (Docker: 16 KiB)."""

QUEUE_LINES: Final = 10_000
"""Lines that may wait for the writing thread; more are dropped and counted."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LINE_BREAKS: Final = {"exception", "stack"}

EventDict = MutableMapping[str, Any]


class _LogChoices(Protocol):
    @property
    def level(self) -> str: ...
    @property
    def format(self) -> str: ...


def _clean(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Redact and bound every field; put the common ones first."""
    ordered: EventDict = {}
    for name in ("ts", "level", "logger", "event"):
        if name in event:
            value = event.pop(name)
            ordered[name] = value if name in {"ts", "level"} else plain(value, MAX_FIELD_CHARS)
    for name, value in event.items():
        limit = MAX_TRACE_CHARS if name in _LINE_BREAKS else MAX_FIELD_CHARS
        ordered[bounded(name, 200)] = HIDDEN if is_secret_name(name, value) else plain(value, limit)
    return ordered


def _json(_logger: Any, _method: str, event: EventDict) -> str:
    line = _dumps(event)
    if len(line) <= MAX_LINE_CHARS:
        return line
    few = {name: event[name] for name in ("ts", "level", "logger", "event") if name in event}
    trace = {name: str(event[name])[:2_000] for name in ("exception",) if name in event}
    return _dumps({**few, **trace, "cut_chars": len(line)})


def _dumps(event: EventDict) -> str:
    try:
        return orjson.dumps(event).decode()
    except TypeError:  # half of a surrogate pair, as file names and arguments may have, which is no text for orjson
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        return line.encode("utf-8", "replace").decode()


def _console(colors: bool) -> Callable[[Any, str, EventDict], str]:
    render = structlog.dev.ConsoleRenderer(
        colors=colors, timestamp_key="ts", pad_event_to=28, exception_formatter=structlog.dev.plain_traceback
    )

    def write(logger: Any, method: str, event: EventDict) -> str:
        for name, value in event.items():  # what others send must not paint the operator's terminal
            if isinstance(value, str):
                seen = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", value)
                event[name] = seen if name in _LINE_BREAKS else seen.replace("\n", "\\n")
        line = str(render(logger, method, event))
        return line if len(line) <= MAX_LINE_CHARS else f"{line[:MAX_LINE_CHARS]}… ({len(line)} characters)"

    return write


class _ThreadedHandler(logging.Handler):
    """Formats at once, writes in its own thread, drops (and counts) rather than waits."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_LINES)
        self.dropped = 0
        self._told = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001, RUF100 - a log line is never worth an exception
            line = json.dumps({"level": "error", "event": "log_failed", "error": type(error).__name__})
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            parts = [line]
            if self.dropped > self._told:
                self._told, told = self.dropped, self._told
                parts.append(json.dumps({"level": "warning", "event": "log_lines_dropped", "count": self._told - told}))
            try:
                self._stream.write("".join(f"{part}\n" for part in parts))
                if self._lines.empty():
                    self._stream.flush()
            except UnicodeEncodeError:
                self._stream.write(line.encode("ascii", "backslashreplace").decode() + "\n")
            except (OSError, ValueError):  # nobody reads any more: the service goes on without a log
                self.dropped += 1

    def stop(self, timeout_s: float) -> None:
        """Write what waits, for at most `timeout_s`."""
        try:
            self._lines.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)


@dataclass(frozen=True)
class Stopper:
    """Ends the log that `setup` began."""

    handler: _ThreadedHandler

    def __call__(self, timeout_s: float = 1.0) -> None:
        """Write what still waits, for at most `timeout_s`; later lines are lost. Call it last."""
        logging.getLogger().removeHandler(self.handler)
        self.handler.stop(timeout_s)


def setup(settings: _LogChoices, stream: TextIO | None = None) -> Stopper:
    """Log from here on as the settings say, structlog and standard `logging` alike; replaces an earlier setup.

    Args:
        settings: `LogSettings`.
        stream: Where to; standard error by default, so that standard output stays for results.
    """
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    console = settings.format == "console" or (settings.format == "auto" and terminal)
    level = getattr(logging, settings.level.upper())
    first: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *first,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _ThreadedHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=first,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _clean,
                _console(terminal) if console else _json,
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        if isinstance(old, _ThreadedHandler):
            old.stop(1.0)
    root.addHandler(handler)
    root.setLevel(level)
    for chatty in ("aiokafka", "websockets", "aiohttp.access", "asyncio"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING) if level > logging.DEBUG else logging.INFO)
    logging.captureWarnings(True)
    return Stopper(handler)
