"""`tidings bench --quick` from start to end: it measures, loses nothing, sees a loss, and leaves nothing running."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result

from tidings.cli.bench.command import bench
from tidings.kafka import ladder

STUB = shlex.join([sys.executable, str(Path(__file__).with_name("bench_stub.py"))])


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Any Kafka, as the environment names it: what is tested is the bench. An embedded one, each bench has inside."""
    with ladder.start(tmp_path_factory.mktemp("kafka"), allow_embedded=True) as broker:
        yield {} if broker.rung == "embedded" else broker.environment()


def run(kafka: dict[str, str], directory: Path, *arguments: str) -> tuple[Result, dict[str, Any]]:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    file = directory / "out.json"
    result = CliRunner().invoke(bench, ["--quick", "--json", str(file), *arguments], obj=directory, env=kafka)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before, "left running"
    return result, json.loads(file.read_text()) if file.exists() else {}


def words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def test_the_baseline_alone(kafka: dict[str, str], tmp_path: Path) -> None:
    result, found = run(kafka, tmp_path, "--target", "baseline", "--markdown")
    assert result.exit_code == 0, result.output
    (shape,) = found["shapes"]
    (measured,) = shape["rounds"]["baseline"]
    assert (measured["deliveries"], measured["lost"], measured["extra"]) == (1_000, 0, 0)
    assert 0 < measured["p50_ms"] <= measured["p99_ms"] <= measured["p999_ms"] <= measured["max_ms"] < 10_000
    assert measured["cpu_s"] > 0
    assert "| 100x10@100 | baseline |" in result.output
    (idle,) = found["idle"]
    assert idle["connections"] == 200
    (connects,) = found["connects"]
    assert connects["per_s"] > 0


def test_a_gateway_beside_the_baseline(kafka: dict[str, str], tmp_path: Path) -> None:
    parts = [word for part in ("shapes", "idle", "connects") for word in ("--part", part)]
    result, found = run(kafka, tmp_path, "--gateway-command", STUB, "--engine", "python", *parts)
    assert result.exit_code == 0, result.output
    (shape,) = found["shapes"]
    assert shape["ratio"] > 0
    assert [len(shape["rounds"][name]) for name in ("gateway", "baseline")] == [1, 1]
    assert all(each["lost"] == 0 for rounds in shape["rounds"].values() for each in rounds)
    idle = {each["target"]: each for each in found["idle"]}
    # The stub pings every second for the two seconds that are watched: the load client answered, or it would be gone.
    assert idle["gateway"]["pings"] >= 200
    assert idle["baseline"]["cpu_us_per_s"] is None


def test_what_a_bare_write_costs(kafka: dict[str, str], tmp_path: Path) -> None:
    result, found = run(kafka, tmp_path, "--part", "writes", "--rounds", "2", "--markdown")
    assert result.exit_code == 0, result.output
    assert [writes["way"] for writes in found["writes"]] == ["transport", "os.write", "send"]
    for writes in found["writes"]:
        assert (writes["connections"], writes["writes"]) == (50, 1_000)
        assert len(writes["cpu_us"]) == 2
        for cpu_us, kernel_us in zip(writes["cpu_us"], writes["kernel_us"], strict=True):
            assert 0.1 < kernel_us <= cpu_us < 1_000
        assert f"| {writes['way']} | 50 | 250 |" in result.output


def test_a_lost_delivery_is_seen_and_fails_the_check(kafka: dict[str, str], tmp_path: Path) -> None:
    floor = tmp_path / "floor.json"
    floor.write_text('{"shapes": {}, "idle": {"rss_per_connection": 1, "cpu_us_per_s": 1}, "connects_per_s": 1}')
    result, found = run(
        kafka, tmp_path, "--part", "shapes", "--target", "gateway", "--gateway-command", STUB,
        "--gateway-env", "TIDINGS_STUB_LOSE=100", "--check-floor", "--floor", str(floor),
    )  # fmt: skip
    assert result.exit_code == 1
    (shape,) = found["shapes"]
    (measured,) = shape["rounds"]["gateway"]
    assert measured["lost"] == 15  # of 50 + 100 records for 10 receivers each, every hundredth
    assert "15 frames lost" in result.output


def test_the_gateway_itself_is_measured(kafka: dict[str, str], tmp_path: Path) -> None:
    result, found = run(kafka, tmp_path, "--part", "shapes", "--target", "gateway")
    assert result.exit_code == 0, result.output
    (measured,) = found["shapes"][0]["rounds"]["gateway"]
    assert (measured["lost"], measured["extra"]) == (0, 0)
    assert measured["deliveries"] > 0
    assert measured["cpu_s"] > 0


def test_resumes_from_the_window_and_from_kafka(kafka: dict[str, str], tmp_path: Path) -> None:
    result, found = run(kafka, tmp_path, "--part", "resume", "--connects", "50", "--markdown")
    assert result.exit_code == 0, result.output
    # That each client got exactly what it missed is checked by the bench itself.
    assert {(each["source"], each["missed"], each["repeats"]) for each in found["resumes"]} == {
        (source, missed, repeats)
        for source in ("window", "Kafka", "Kafka, read before")
        for missed, repeats in ((1, 3), (200, 2))
    }
    for each in found["resumes"]:
        assert 0 < each["welcome_p50_ms"] <= each["last_p50_ms"] <= each["last_p99_ms"] <= each["last_max_ms"] < 10_000
        assert each["others"] == 300
    assert [each["source"] for each in found["resume_rates"]] == ["no cursor", "window", "Kafka"]
    assert all(each["users"] == 50 and each["per_s"] > 0 for each in found["resume_rates"])
    assert "| 200 | Kafka, read before | 2 |" in result.output


def test_a_resume_that_is_refused_is_not_taken_for_a_quick_one(kafka: dict[str, str], tmp_path: Path) -> None:
    result, _ = run(
        kafka, tmp_path, "--part", "resume", "--gateway-env", "TIDINGS_GATEWAY_READBACK_TIMEOUT_S=0.000001"
    )  # fmt: skip
    assert "$resync" in str(result.exception)
    assert "budget" in str(result.exception)


def test_what_the_window_costs(kafka: dict[str, str], tmp_path: Path) -> None:
    result, found = run(kafka, tmp_path, "--part", "window", "--markdown")
    assert result.exit_code == 0, result.output
    (memory,) = found["window_memory"]
    (kept,), (without,) = memory["kept"], memory["without"]
    # With the window off, the gateway says so; with it on, all records are in it, and a little for each.
    assert without["window_bytes"] == 0
    assert 0 < kept["window_bytes"] - memory["records"] * memory["record_bytes"] < memory["records"] * 300
    idle, busy = found["window_cpu"]
    assert (idle["connected"], busy["connected"]) == (0, 10)
    for each in (idle, busy):
        assert len(each["kept"]) == len(each["without"]) == 1
        assert each["difference_us"] == pytest.approx(each["kept"][0]["cpu_us"] - each["without"][0]["cpu_us"])
    assert idle["kept"][0]["deliveries"] == 0 < busy["kept"][0]["deliveries"] == busy["without"][0]["deliveries"]
    assert "| 50x10@500 | 10 |" in result.output


def test_a_gateway_that_does_not_start_is_told_with_its_last_words(kafka: dict[str, str], tmp_path: Path) -> None:
    broken = shlex.join([sys.executable, "-c", "raise SystemExit('no such luck')"])
    result, _ = run(kafka, tmp_path, "--part", "shapes", "--target", "gateway", "--gateway-command", broken)
    assert "no such luck" in str(result.exception)
    assert os.listdir(tmp_path) in ([], ["bench"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_nothing_outlives_the_bench(kafka: dict[str, str], tmp_path: Path, number: signal.Signals) -> None:
    code = f"from tidings.cli.bench.command import bench; bench(obj=__import__('pathlib').Path({str(tmp_path)!r}))"
    process = psutil.Popen(
        [sys.executable, "-c", code, "--part", "shapes", "--shape", "100x10@100", "--target", "baseline"],
        env={**os.environ, **kafka, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        children: list[psutil.Process] = []
        while not any("tidings.cli.bench.load" in words(child) for child in children):
            assert time.monotonic() < deadline
            time.sleep(0.05)
            children = process.children()
        process.send_signal(number)
        process.wait(20)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert len(children) == 3  # baseline, producer, load client
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    if number != signal.SIGKILL:
        # The compiled load client stays for the next time, where there is a compiler.
        assert {each.name for each in tmp_path.iterdir()} <= {"bench"}
