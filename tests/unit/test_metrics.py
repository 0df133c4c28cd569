"""Names, values and exposition of the metrics, and what they cost."""

import asyncio
import threading
from typing import cast, get_args

import pytest
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from tidings.errors import InvalidState
from tidings.metric_specs import SPECS, CounterName, GaugeName, HistogramName, MetricName
from tidings.metrics import Histogram, Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def scraped(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = asyncio.run(metrics.exposition())[0].decode()
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_the_table_and_the_literals_are_the_same_names() -> None:
    names = [*get_args(CounterName), *get_args(GaugeName), *get_args(HistogramName)]
    assert sorted(names) == sorted(SPECS)
    assert sorted(names) == sorted(get_args(MetricName))


def test_names_follow_prometheus_custom() -> None:
    for name, spec in SPECS.items():
        assert name.endswith("_total") == (spec.kind == "counter")
        assert bool(spec.buckets) == (spec.kind == "histogram")
        assert list(spec.buckets) == sorted(set(spec.buckets))
        assert spec.help.endswith(".")


def test_every_loss_and_delay_has_a_runbook_line() -> None:
    for name in ("tidings_gateway_drops_total", "tidings_gateway_skipped_batches_total", "tidings_dead_letters_total"):
        assert SPECS[name].runbook
    for name, spec in SPECS.items():
        if any(word in name for word in ("lag", "delivery_seconds", "delay", "pending", "oldest", "kafka_up")):
            assert spec.runbook or "handshakes" in name, name


def test_values_reach_the_exposition(metrics: Metrics) -> None:
    metrics.counter("tidings_gateway_records_total", outcome="routed").inc(3)
    metrics.counter("tidings_gateway_records_total", outcome="routed").inc()
    metrics.gauge("tidings_gateway_ready").set(1)
    unsent = metrics.gauge("tidings_gateway_unsent_bytes")
    unsent.inc(10)
    unsent.dec(4)
    found = scraped(metrics)
    assert found["tidings_gateway_records_total", (("outcome", "routed"),)] == 4
    assert found["tidings_gateway_ready", ()] == 1
    assert found["tidings_gateway_unsent_bytes", ()] == 6
    assert metrics.value("tidings_gateway_records_total", outcome="routed") == 4


def test_a_child_is_always_the_same_object(metrics: Metrics) -> None:
    assert metrics.counter("tidings_gateway_closes_total", code="1001") is metrics.counter(
        "tidings_gateway_closes_total", code="1001"
    )
    assert metrics.gauge("tidings_gateway_ready") is metrics.gauge("tidings_gateway_ready")
    assert metrics.histogram("tidings_gateway_encode_seconds") is metrics.histogram("tidings_gateway_encode_seconds")


def test_wrong_labels_are_a_bug(metrics: Metrics) -> None:
    with pytest.raises(InvalidState):
        metrics.counter("tidings_gateway_records_total")
    with pytest.raises(InvalidState):
        metrics.counter("tidings_gateway_sent_bytes_total", outcome="x")
    with pytest.raises(KeyError):
        metrics.counter(cast(CounterName, "tidings_no_such_total"))


def test_histograms_are_cumulative_and_count_in_bulk(metrics: Metrics) -> None:
    histogram = metrics.histogram("tidings_gateway_delivery_seconds")
    histogram.observe(0.001)
    histogram.observe(0.004, 100)
    histogram.observe(1000.0)
    histogram.observe(-5.0)
    found = scraped(metrics)
    name: HistogramName = "tidings_gateway_delivery_seconds"
    assert found[f"{name}_bucket", (("le", "0.001"),)] == 2
    assert found[f"{name}_bucket", (("le", "0.003"),)] == 2
    assert found[f"{name}_bucket", (("le", "0.005"),)] == 102
    assert found[f"{name}_bucket", (("le", "300.0"),)] == 102
    assert found[f"{name}_bucket", (("le", "+Inf"),)] == 103
    assert found[f"{name}_count", ()] == 103
    assert found[f"{name}_sum", ()] == pytest.approx(1000.401)
    assert metrics.value(name) == 103


def test_a_value_on_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 2.0, 2.1):
        histogram.observe(value)
    assert histogram.counts == [1, 1, 1]


def test_gauges_can_be_read_at_the_scrape(metrics: Metrics) -> None:
    lag = {"0": 5.0}
    by_protocol: dict[tuple[str, ...], float] = {("ws",): 2.0}
    metrics.on_scrape("tidings_gateway_lag_records", lambda: lag)
    metrics.on_scrape("tidings_gateway_window_bytes", lambda: 7)
    metrics.on_scrape("tidings_gateway_connections", lambda: by_protocol)
    lag["1"] = 6.0
    found = scraped(metrics)
    assert found["tidings_gateway_lag_records", (("partition", "1"),)] == 6
    assert found["tidings_gateway_window_bytes", ()] == 7
    assert found["tidings_gateway_connections", (("protocol", "ws"),)] == 2
    assert metrics.value("tidings_gateway_lag_records", partition="0") == 5


def test_a_broken_hook_takes_only_itself_away(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    metrics.on_scrape("tidings_gateway_lag_records", lambda: 1 / 0)
    metrics.gauge("tidings_gateway_ready").set(1)
    assert ("tidings_gateway_ready", ()) in scraped(metrics)
    assert "tidings_gateway_lag_records" in caplog.text


def test_what_was_never_used_is_not_shown(metrics: Metrics) -> None:
    assert scraped(metrics) == {}
    assert metrics.value("tidings_gateway_sent_bytes_total") == 0
    assert metrics.value("tidings_gateway_encode_seconds") == 0


async def test_a_scrape_does_not_hold_records_up_while_the_files_of_the_process_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = threading.Event()

    def collect(_: ProcessCollector) -> list[Metric]:
        assert counted.wait(5), "the event loop stood still"
        return []

    monkeypatch.setattr(ProcessCollector, "collect", collect)
    asyncio.get_running_loop().call_later(0.01, counted.set)
    await Metrics().exposition()


async def test_the_process_is_there_by_default_and_both_formats() -> None:
    body, kind = await Metrics().exposition("application/openmetrics-text; version=1.0.0")
    assert b"# EOF" in body
    assert kind.startswith("application/openmetrics-text")
    assert b"process_cpu_seconds_total" in body
