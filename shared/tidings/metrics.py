"""The values of all metrics, as plain numbers, and how Prometheus gets them.

prometheus_client's own counter costs 0.38 µs per `inc` and its histogram 0.88 µs per `observe`, most of it for a lock
that one event loop does not need (docs/decisions/0104). So the values live here (0.04 µs and 0.17 µs), and
prometheus_client, which knows the formats, collects them on a scrape. Names and meanings: `tidings.metric_specs`.
"""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tidings.errors import InvalidState
from tidings.metric_specs import SPECS, CounterName, GaugeName, HistogramName, MetricName, Spec

__all__ = [
    "SPECS",
    "Counter",
    "CounterName",
    "Gauge",
    "GaugeName",
    "Histogram",
    "HistogramName",
    "MetricName",
    "Metrics",
    "Spec",
]


class Counter:
    """A number that only grows. Hot code may add to `value` itself."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Add; never negative. Cost: one float addition."""
        self.value += amount


class Gauge:
    """A number that goes up and down. Hot code may assign `value` itself."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        """Replace."""
        self.value = float(value)

    def inc(self, amount: float = 1.0) -> None:
        """Add."""
        self.value += amount

    def dec(self, amount: float = 1.0) -> None:
        """Subtract."""
        self.value -= amount


class Histogram:
    """How often which durations were seen."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Note `count` observations of `value` seconds at the price of one: about 0.2 µs.

        A bucket holds what is less than or equal to its bound. A negative value (clocks apart) counts as 0.
        """
        if value < 0.0:
            value = 0.0
        self.counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    @property
    def count(self) -> int:
        """All observations."""
        return sum(self.counts)


Labels = tuple[str, ...]
Read = Callable[[], float | Mapping[str, float] | Mapping[Labels, float]]


class Metrics(Collector):
    """The values of one process, handed out by name, and their exposition.

    A value is made when it is first asked for: keep what `counter`, `gauge` and `histogram` return instead of asking on
    a hot path. One thread (the event loop's) writes and scrapes.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Register with `registry`; by default one of its own, with the process's CPU, memory and files beside ours."""
        self._process: ProcessCollector | None = None
        if registry is None:
            registry = CollectorRegistry()
            self._process = ProcessCollector(registry=None)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)
        self.registry = registry
        self._counters: dict[MetricName, dict[Labels, Counter]] = {}
        self._gauges: dict[MetricName, dict[Labels, Gauge]] = {}
        self._histograms: dict[MetricName, dict[Labels, Histogram]] = {}
        self._hooks: dict[MetricName, Read] = {}
        registry.register(self)

    def counter(self, name: CounterName, **labels: str) -> Counter:
        """The counter of these label values; always the same object.

        Raises:
            InvalidState: Not the labels of the table.
        """
        return self._counters.setdefault(name, {}).setdefault(_values(name, labels), Counter())

    def gauge(self, name: GaugeName, **labels: str) -> Gauge:
        """The gauge of these label values; as `counter`."""
        return self._gauges.setdefault(name, {}).setdefault(_values(name, labels), Gauge())

    def histogram(self, name: HistogramName, **labels: str) -> Histogram:
        """The histogram of these label values; as `counter`."""
        family = self._histograms.setdefault(name, {})
        return family.setdefault(_values(name, labels), Histogram(SPECS[name].buckets))

    def on_scrape(self, name: GaugeName, read: Read) -> None:
        """Ask `read` at each scrape, instead of keeping a gauge up to date.

        Args:
            read: Gives the number; for a gauge with labels a mapping from the label's value (several: the tuple of
                values in the order of the table). If it raises, this metric is missing from that scrape.
        """
        self._hooks[name] = read

    def value(self, name: MetricName, **labels: str) -> float:
        """One value as a scrape would give it (of a histogram the count), 0 if it was never asked for. For tests."""
        spec, key = SPECS[name], _values(name, labels)
        if spec.kind == "histogram":
            histogram = self._histograms.get(name, {}).get(key)
            return float(histogram.count) if histogram else 0.0
        return dict(self._samples(spec)).get(key, 0.0)

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The answer to a scrape: body and content type, in the format that the Accept header asks for.

        Cost: half a millisecond of the event loop. The process's own numbers are read in a thread: with 10,000 sockets
        the kernel takes 4 to 20 ms to list its files, and every record would wait for that.
        """
        encode, content_type = choose_encoder(accept)
        process = () if self._process is None else await asyncio.to_thread(self._process.collect)
        return encode(_Scrape([*process, *self.registry.collect()])), content_type

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are checked by the table, and registering must not call the hooks."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks for at a scrape."""
        for spec in SPECS.values():
            if spec.kind == "histogram":
                family = HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)
                for key, histogram in self._histograms.get(spec.name, {}).items():
                    family.add_metric(key, _cumulative(histogram), histogram.sum)
                if family.samples:
                    yield family
                continue
            kind = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
            plain = kind(spec.name, spec.help, labels=spec.labels)
            for key, value in self._samples(spec):
                plain.add_metric(key, value)
            if plain.samples:
                yield plain

    def _samples(self, spec: Spec) -> Iterator[tuple[Labels, float]]:
        if spec.kind == "counter":
            for key, counter in self._counters.get(spec.name, {}).items():
                yield key, counter.value
            return
        for key, gauge in self._gauges.get(spec.name, {}).items():
            yield key, gauge.value
        if (read := self._hooks.get(spec.name)) is None:
            return
        try:
            found = read()
            samples = (
                [((key,) if isinstance(key, str) else key, float(number)) for key, number in found.items()]
                if isinstance(found, Mapping)
                else [((), float(found))]
            )
        except Exception:  # one broken hook must not take all other metrics away
            logging.getLogger(__name__).exception("a metric could not be read: %s", spec.name)
            return
        yield from samples


class _Scrape(Collector):
    """What was collected already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _values(name: MetricName, labels: Mapping[str, str]) -> Labels:
    wanted = SPECS[name].labels
    if labels.keys() != set(wanted):
        raise InvalidState(f"{name} has the labels {wanted}, not {tuple(labels)}")
    return tuple(labels[label] for label in wanted)


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(total)))
    return buckets
