"""The parts about records that were missed: resuming, and what the window that one resumes from costs."""

from tidings.cli.bench.gaps import Gaps
from tidings.cli.bench.keeping import (
    KEEPS_ALL,
    Cost,
    Grown,
    WindowCpu,
    WindowMemory,
    fill,
    flood_rate,
    grow,
    spend,
    value_bytes,
)
from tidings.cli.bench.report import Report
from tidings.cli.bench.resume import LIMITS_OFF, NO_WINDOW, measure_resume_rate, measure_resumes
from tidings.cli.bench.rig import Rig
from tidings.cli.bench.shapes import Shape, load_of, users
from tidings.cli.bench.targets import GATEWAY

__all__ = ["resume_part", "window_part"]


def resume_part(rig: Rig, report: Report) -> None:
    """From the window, then with none, so that all comes from Kafka. The baseline has nothing like it."""
    options = rig.options
    if GATEWAY not in options.targets:
        return
    user, watcher, *many = people = users(options.connects + 2, options.seed)
    for window in (True, False):
        own = LIMITS_OFF if window else LIMITS_OFF | NO_WINDOW
        with rig.topics() as topics, rig.target(GATEWAY, topics, people, own=own) as target:
            gaps = Gaps(rig.broker.bootstrap_servers, topics.modifications, options.seed)
            for missed, repeats in options.missed:
                rig.say(f"{missed:,} missed records, {'from the window' if window else 'from Kafka'}")
                report.resumes += measure_resumes(
                    target, gaps, user, watcher, missed=missed, others=options.others, repeats=repeats, window=window
                )
            for source in ("no cursor", "window") if window else ("Kafka",):
                rig.say(f"{len(many):,} users at once, {source}")
                with_cursor = source != "no cursor"
                report.resume_rates.append(
                    measure_resume_rate(
                        target, gaps, many, watcher, source=source, cursor=with_cursor, rounds=options.rounds
                    )
                )


def window_part(rig: Rig, report: Report) -> None:
    """Memory, then CPU. With and without take turns, and which comes first changes with each round."""
    if GATEWAY not in rig.options.targets:
        return
    for shape in rig.options.window_shapes:
        _memory(rig, report, shape)
    for shape in rig.options.window_shapes:
        _cpu(rig, report, shape)


def _memory(rig: Rig, report: Report, shape: Shape) -> None:
    options = rig.options
    found: dict[bool, list[Grown]] = {True: [], False: []}
    for number in range(options.rounds):
        for window in _turns(number):
            own = KEEPS_ALL if window else NO_WINDOW
            with (
                rig.topics() as topics,
                rig.target(GATEWAY, topics, [], own=own) as target,
                rig.producer(topics, shape) as producer,
            ):
                grown = grow(target, producer, count=options.window_records, rate=flood_rate(shape.receivers))
            found[window].append(grown)
            rig.say(
                f"{_round(rig, shape, number, window)}: {grown.rss_bytes / 1e6:.1f} MB more after"
                f" {options.window_records:,} records"
            )
    size = value_bytes(load_of(shape, users(shape.connections, options.seed), options.seed))
    report.window_memory.append(WindowMemory(shape.receivers, options.window_records, size, found[True], found[False]))


def _cpu(rig: Rig, report: Report, shape: Shape) -> None:
    """The same process first with nobody connected, then with some."""
    options = rig.options
    people = users(shape.connections, options.seed)
    load = load_of(shape, people, options.seed)
    filling = max(1, int(options.window_fill_bytes / value_bytes(load)))
    count = max(1, int(shape.rate * options.window_seconds))
    present = (0, min(options.window_connected, shape.connections))
    found: dict[tuple[bool, int], list[Cost]] = {(window, n): [] for window in (True, False) for n in present}
    for number in range(options.rounds):
        for window in _turns(number):
            with (
                rig.topics() as topics,
                rig.target(GATEWAY, topics, people, own=None if window else NO_WINDOW) as target,
                rig.producer(topics, shape) as producer,
            ):
                fill(target, producer, count=filling, rate=flood_rate(shape.receivers))
                first = filling
                for connected in present:
                    cost = spend(
                        target, producer, load, people, rig.client, connected=connected, first=first, count=count
                    )
                    first += count
                    found[window, connected].append(cost)
                    rig.say(
                        f"{_round(rig, shape, number, window)}, {connected} connected: {cost.cpu_us:.1f} µs per record"
                    )
    report.window_cpu += [WindowCpu(shape.name, n, count, found[True, n], found[False, n]) for n in present]


def _turns(number: int) -> tuple[bool, bool]:
    return (True, False) if number % 2 == 0 else (False, True)


def _round(rig: Rig, shape: Shape, number: int, window: bool) -> str:
    return f"{shape.name} round {number + 1}/{rig.options.rounds} {'with the' if window else 'without a'} window"
