"""What a node counts, with the metrics' objects at hand so that the way of a record looks up no label."""

from typing import Final

from tidings.closing import CloseCode
from tidings.gateway.frames import Encoding
from tidings.gateway.router import Routed
from tidings.metrics import Metrics

__all__ = ["Stats"]

_NO_CODE: Final = 1005
_NO_CLOSE: Final = 1006
_CODES: Final = frozenset({*CloseCode, _NO_CODE, _NO_CLOSE})


class Stats:
    """The counters and histograms of one node; gauges are read where they live, on a scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._deliveries = [
            metrics.counter("tidings_gateway_deliveries_total", protocol=encoding.protocol) for encoding in Encoding
        ]
        self._sent_bytes = metrics.counter("tidings_gateway_sent_bytes_total")
        self._gathered = metrics.counter("tidings_gateway_gathered_total")
        self.delivery_s = metrics.histogram("tidings_gateway_delivery_seconds")
        self.encode_s = metrics.histogram("tidings_gateway_encode_seconds")
        self.flush_s = metrics.histogram("tidings_gateway_flush_seconds")
        self.resume_s = metrics.histogram("tidings_gateway_resume_seconds")
        self.loop_delay_s = metrics.histogram("tidings_gateway_loop_delay_seconds")

    def routed(self, routed: Routed, now_ms: float) -> None:
        """One batch was written."""
        for outcome, count in routed.outcomes.items():
            self._metrics.counter("tidings_gateway_records_total", outcome=outcome).value += count
        for encoding, count in enumerate(routed.deliveries):
            self._deliveries[encoding].value += count
        self._sent_bytes.value += routed.bytes
        observe = self.delivery_s.observe
        for timestamp_ms in routed.timestamps_ms:
            if timestamp_ms >= 0:
                observe((now_ms - timestamp_ms) / 1000)

    def gathered(self, frames: int) -> None:
        """Frames were kept for the next batch."""
        self._gathered.value += frames

    def dropped(self, reason: str, frames: int) -> None:
        """Frames that were queued for a connection and will not be written."""
        self._metrics.counter("tidings_gateway_drops_total", reason=reason).value += frames

    def closed(self, code: int) -> None:
        """A connection ended with that code, whoever chose it; 1006: without one. A client's own codes are `other`."""
        label = str(int(code)) if code in _CODES else "other"
        self._metrics.counter("tidings_gateway_closes_total", code=label).value += 1

    def refused(self, reason: str) -> None:
        """A handshake failed."""
        self._metrics.counter("tidings_gateway_refused_total", reason=reason).value += 1

    def resumed(self, outcome: str) -> None:
        """A connection came with a cursor."""
        self._metrics.counter("tidings_gateway_resumes_total", outcome=outcome).value += 1

    def window_lookup(self, result: str) -> None:
        """A cursor was looked for in the window."""
        self._metrics.counter("tidings_gateway_window_lookups_total", result=result).value += 1

    def replayed(self, encoding: int, frames: int, size: int) -> None:
        """Frames of missed records were written to one connection."""
        self._metrics.counter("tidings_gateway_replayed_total").value += frames
        self._deliveries[encoding].value += frames
        self._sent_bytes.value += size

    def held_back(self) -> None:
        """A slow connection became a position in the window."""
        self._metrics.counter("tidings_gateway_held_back_total").value += 1

    def read_back(self, size: int) -> None:
        """Older records were read from Kafka."""
        self._metrics.counter("tidings_gateway_readback_bytes_total").value += size

    def warmed(self, records: int) -> None:
        """Records of before the start were remembered."""
        self._metrics.counter("tidings_gateway_records_total", outcome="warmed").value += records

    def client_frame(self, kind: str) -> None:
        """A client sent something."""
        self._metrics.counter("tidings_gateway_client_frames_total", kind=kind).value += 1

    def skipped_batch(self, reason: str) -> None:
        """A batch could not be decoded."""
        self._metrics.counter("tidings_gateway_skipped_batches_total", reason=reason).value += 1
