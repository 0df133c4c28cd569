"""The load client, a process of its own: opens the connections of a plan, then counts what comes.

`python -m tidings.cli.bench.load PORT PLAN [--engine native|python] [--library FILE] [--parallel N]`. It answers each
line on standard input with one JSON line: `totals`, `counts`, `latencies`, `reset`; it ends at `quit` or at the end of
the input, so it can't outlive the bench.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tidings.cli.bench.engines import Engine, NativeEngine, PythonEngine
from tidings.cli.bench.handshakes import connect_all, read_plan

__all__ = ["main"]


def answer(engine: Engine, word: str) -> Any:
    """What one command is answered with."""
    if word == "totals":
        return engine.totals() | {"cpu_ms": round(time.process_time() * 1000)}
    if word == "counts":
        return engine.counts()
    if word == "latencies":
        return engine.latencies()
    if word == "reset":
        engine.reset()
        return {}
    return {"error": f"unknown command {word!r}"}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tidings.cli.bench.load")
    parser.add_argument("port", type=int)
    parser.add_argument("plan")
    parser.add_argument("--engine", choices=("native", "python"), default="python")
    parser.add_argument("--library", type=Path)
    parser.add_argument("--parallel", type=int, default=32)
    options = parser.parse_args(arguments)
    plan = read_plan(options.plan)
    engine: Engine
    engine = NativeEngine(len(plan), options.library) if options.engine == "native" else PythonEngine(len(plan))
    began, began_cpu = time.monotonic(), time.process_time()
    try:
        took = connect_all(options.port, plan, options.parallel, engine.add)
    except Exception as error:
        _say({"error": f"{type(error).__name__}: {error}"})
        sys.exit(1)
    took.sort()
    _say(
        {
            "connections": len(plan),
            "connect_s": time.monotonic() - began,
            "connect_cpu_s": time.process_time() - began_cpu,
            "connect_p50_ms": took[len(took) // 2] * 1000 if took else 0.0,
            "connect_p99_ms": took[len(took) * 99 // 100] * 1000 if took else 0.0,
        }
    )
    commands = sys.stdin.fileno()
    os.set_blocking(commands, False)
    engine.control(commands)
    pending = b""
    while True:
        if not engine.pump(1_000):
            continue
        read = os.read(commands, 65_536)
        if not read:
            return
        *lines, pending = (pending + read).split(b"\n")
        for line in lines:
            if line == b"quit":
                return
            _say(answer(engine, line.decode()))


def _say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
