"""`tidings bench`: how fast the gateway is here, and how that compares with the baseline."""

import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console

from tidings.cli.bench.floor import below_floor, read_floor
from tidings.cli.bench.report import markdown, print_report
from tidings.cli.bench.rig import OUR_GATEWAY, Options, Part
from tidings.cli.bench.run import run
from tidings.cli.bench.shapes import SHAPES, Shape

__all__ = ["bench"]

_QUICK = {
    "rounds": 1, "seconds": 1.0, "warm_up": 0.5, "idle_connections": (200,), "idle_seconds": 2.0, "connects": 200,
    "written": (50, 250, 20), "settle_s": 0.5, "patience_s": 2.0, "missed": ((1, 3), (200, 2)), "others": 300,
    "window_records": 2_000, "window_shapes": (Shape(50, 10, 500),), "window_connected": 10, "window_seconds": 1.0,
    "window_fill_bytes": 200_000, "chats": 5, "relayed": 500, "synced_chats": 10,
}  # fmt: skip
_QUICK_SHAPE = Shape(100, 10, 100)


class _ShapeType(click.ParamType[Shape]):
    """CONNECTIONSxRECEIVERS@RATE, as `Shape.name` writes it."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shape:
        if isinstance(value, Shape):
            return value
        match = re.fullmatch(r"(\d+)x(\d+)@(\d+)", str(value))
        if match is None:
            self.fail(f"{value!r} is not like 1000x100@200 (connections x receivers @ records per second)", param, ctx)
        shape = Shape(*map(int, match.groups()))
        if not 0 < shape.receivers <= shape.connections or not shape.rate:
            self.fail(f"{value!r}: a record needs 1 to {shape.connections} receivers, and a rate", param, ctx)
        return shape


def _pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r} is not NAME=VALUE")
    return dict(value.split("=", 1) for value in values)


@click.command(short_help="Measure the gateway against a plain Python baseline.")
@click.option("--quick", is_flag=True, help="One short round of one small shape: does it all still work?")
@click.option(
    "--shape", "shapes", type=_ShapeType(), multiple=True, metavar="CxR@N",
    help=f"C connections, R receivers a record, N records/s; repeat it. [default: {' '.join(s.name for s in SHAPES)}]",
)  # fmt: skip
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of each target per shape.")
@click.option("--seconds", type=click.FloatRange(0.1), default=8.0, show_default=True, help="Measured part of a round.")
@click.option("--warm-up", type=click.FloatRange(0), default=2.0, show_default=True, help="Seconds before it.")
@click.option("--part", "parts", type=click.Choice(get_args(Part)), multiple=True, help="Only this; repeat it.")
@click.option("--target", "targets", type=click.Choice(["baseline", "gateway"]), multiple=True, help="Only this one.")
@click.option(
    "--idle-connections", type=click.IntRange(1), multiple=True, help="Steps of the idle part. [default: 5000 10000]"
)
@click.option("--idle-seconds", type=click.FloatRange(1), default=50.0, show_default=True, help="Watched at each step.")
@click.option(
    "--connects", type=click.IntRange(1), default=4_000, show_default=True, help="Connects, and resumes, per round."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses users, receivers and texts.")
@click.option(
    "--engine", type=click.Choice(["auto", "native", "python"]), default="auto", show_default=True,
    help="How the load client reads: compiled C or Python; auto is C where there is a compiler.",
)  # fmt: skip
@click.option(
    "--gateway-env", callback=_pairs, multiple=True, metavar="NAME=VALUE", help="A setting that is not the default."
)
@click.option("--gateway-command", default=OUR_GATEWAY, help="Another gateway, to compare versions. [default: ours]")
@click.option(
    "--kafka-heap", type=click.Choice(["small", "shipped"]), default="small", show_default=True,
    help="Of the broker that is started: as with `tidings up`, or 1 GB as with Kafka's own start script.",
)  # fmt: skip
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Where all numbers go.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the tables for README on stdout.")
@click.option("--check-floor", is_flag=True, help="Exit code 1 if a figure is worse than the recorded floor.")
@click.option(
    "--floor", type=click.Path(dir_okay=False, path_type=Path), default="tests/bench/floor.json", show_default=True,
    help="The recorded floor.",
)  # fmt: skip
@click.pass_obj
def bench(
    state_dir: Path | None,
    /,
    quick: bool,
    json_file: Path | None,
    as_markdown: bool,
    check_floor: bool,
    floor: Path,
    **given: Any,
) -> None:
    """Measure the gateway with its default settings and, in turn on the same Kafka, the baseline: a gateway as one
    writes it with asyncio, aiokafka, json and websockets.

    Deliveries per CPU-second of the process, latency from produce to client, loss, memory and CPU of idle connections,
    connects per second. Beside it what a bare write to a socket costs here, and of the gateway alone how long a resume
    takes and what the window costs. Needs some 70 minutes with all defaults, and a machine that does nothing else. The
    messaging service has a part of its own, which runs only when it is named.

    \b
    Examples:
      tidings bench                                     everything
      tidings bench --part shapes --shape 1000x100@400 --rounds 3
      tidings bench --part writes
      tidings bench --part idle --target gateway
      tidings bench --part resume --part window --markdown
      tidings bench --part messaging
      tidings bench --part shapes --gateway-env TIDINGS_GATEWAY_LINGER_MS=0
    """
    least = read_floor(floor) if check_floor else None  # before the minutes, not after them
    options = _options(quick, (state_dir or Path(".tidings")) / "bench", given)
    console = Console(stderr=as_markdown)
    if not console.is_terminal:
        console = Console(stderr=as_markdown, width=120)  # a log is not cut to the 80 columns of nobody's screen
    # As Ctrl-C does: through all the clean-up, so that no process, topic or directory stays.
    before = signal.signal(signal.SIGTERM, _terminated)
    # A shell that starts it in the background has SIGINT ignored, and this would be inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        report = run(options, lambda line: console.print(line, style="dim", highlight=False))
    finally:
        signal.signal(signal.SIGTERM, before)
    console.print()
    print_report(report, console)
    file = json_file or options.cache / f"{report.machine['date'].replace(' UTC', '').replace(' ', 'T')}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report.as_dict(), indent=1) + "\n")
    console.print(f"All numbers: {os.path.relpath(file)}")
    if as_markdown:
        click.echo(markdown(report), nl=False)
    wrong = below_floor(report, least)
    for line in wrong:
        console.print(line, style="red")
    if wrong:
        raise SystemExit(1)


def _terminated(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _options(quick: bool, cache: Path, given: dict[str, Any]) -> Options:
    """What was given on the command line over the quick set over the defaults."""
    source = click.get_current_context().get_parameter_source
    chosen = {
        name: given[name]
        for name in (
            *("rounds", "seconds", "warm_up", "idle_seconds", "connects", "seed", "engine", "gateway_command"),
            "kafka_heap",
        )
        if not quick or source(name) is not click.core.ParameterSource.DEFAULT
    }
    # Options that may be repeated are empty when not given.
    chosen |= {name: given[name] for name in ("shapes", "parts", "targets", "idle_connections") if given[name]}
    shapes = (_QUICK_SHAPE,) if quick else SHAPES
    options = Options(shapes=shapes, cache=cache, gateway_environment=given["gateway_env"])
    return replace(options, **{**(_QUICK if quick else {}), **chosen})
