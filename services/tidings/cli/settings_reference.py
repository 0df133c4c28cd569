"""docs/settings.md and docs/metrics.md, made from the settings classes and the table of metrics.

`python -m tidings.cli.settings_reference` writes them; with `--check` it only says whether they are as they should be.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tidings.config import GROUPS
from tidings.config.groups import SettingsGroup, accepted, default_text, is_secret, marks, variable
from tidings.metric_specs import SPECS

__all__ = ["check", "main", "metrics_page", "settings_page", "write"]

_DOCS: Final = Path(__file__).resolve().parents[3] / "docs"
_COMMAND: Final = "python -m tidings.cli.settings_reference"


def settings_page() -> str:
    """docs/settings.md."""
    return "\n".join(_settings_lines()) + "\n"


def _settings_lines() -> Iterator[str]:
    yield f"<!-- Made by `{_COMMAND}` from shared/tidings/config/. -->"
    yield "# Settings"
    yield ""
    yield "All settings come from the environment. An empty or blank variable counts as not set. Faults are reported"
    yield "all at once, with the variable's name, before anything listens; a name that begins with `TIDINGS_` and is no"
    yield "setting is a warning in the log. `tidings gateway --print-settings` shows what is in effect and where it"
    yield "comes from. Numbers of bytes are also accepted as `64KiB`, `4MiB` or `1GiB`."
    for group in GROUPS:
        yield ""
        yield f"## {_title(group)}"
        yield ""
        yield (group.__doc__ or "").strip()
        yield ""
        yield "| variable | default | accepted | meaning |"
        yield "|---|---|---|---|"
        for field, info in group.model_fields.items():
            extra = marks(info)
            default = default_text(info)
            default = default if "default_text" in extra else f"`{default}`" if default else "–"
            notes = [info.description or ""]
            if extra.get("limit"):
                notes.append(f"Limit, counted in `{extra['metric']}`.")
            if is_secret(info):
                notes.append("Secret: never shown.")
            cells = (f"`{variable(group, field)}`", default, accepted(info), " ".join(notes))
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _title(group: type[SettingsGroup]) -> str:
    return {"KafkaSettings": "Kafka", "TopicSettings": "Topics", "JwtSettings": "Tokens", "LogSettings": "Logs"}.get(
        group.__name__, group.__name__.removesuffix("Settings")
    )


def metrics_page() -> str:
    """docs/metrics.md."""
    return "\n".join(_metrics_lines()) + "\n"


def _metrics_lines() -> Iterator[str]:
    yield f"<!-- Made by `{_COMMAND}` from shared/tidings/metric_specs.py. -->"
    yield "# Metrics"
    yield ""
    yield "In Prometheus' format at `/metrics` of the admin port, beside those of the process (`process_*`,"
    yield "`python_*`). A metric with labels appears when its first value does."
    yield ""
    yield "| metric | kind | labels | meaning |"
    yield "|---|---|---|---|"
    for spec in SPECS.values():
        labels = ", ".join(f"`{label}`" for label in spec.labels) or "–"
        yield f"| `{spec.name}` | {spec.kind} | {labels} | {spec.help} |"
    yield ""
    yield "## What to do when"
    yield ""
    yield "One line for every way in which a record can be lost or late."
    yield ""
    for spec in SPECS.values():
        if spec.runbook:
            yield f"- `{spec.name}`: {spec.runbook}"


def _pages(docs: Path) -> dict[Path, str]:
    return {docs / "settings.md": settings_page(), docs / "metrics.md": metrics_page()}


def write(docs: Path = _DOCS) -> list[Path]:
    """Write the pages that differ into `docs`; which ones."""
    stale = check(docs)
    pages = _pages(docs)
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[path], encoding="utf-8")
    return stale


def check(docs: Path = _DOCS) -> list[Path]:
    """The pages that are missing or not as they would be written now."""
    return [
        path for path, text in _pages(docs).items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status: 1 if `--check` found a difference."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is not up to date")
    if parser.parse_args(arguments).check:
        stale = check()
        for path in stale:
            print(f"docs/{path.name} is not up to date: run {_COMMAND}", file=sys.stderr)
        return 1 if stale else 0
    for path in write():
        print(f"wrote docs/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
