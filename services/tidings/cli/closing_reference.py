"""README's table of close codes, made from `tidings.closing`.

`python -m tidings.cli.closing_reference` writes it between its two markers; with `--check` it only says whether it is
as it should be.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tidings.closing import ADVICE, CloseCode

__all__ = ["BEGIN", "END", "check", "main", "table", "with_table", "write"]

_README: Final = Path(__file__).resolve().parents[3] / "README.md"
_COMMAND: Final = "python -m tidings.cli.closing_reference"

BEGIN: Final = "<!-- generated:closing -->"
END: Final = "<!-- /generated:closing -->"


def table() -> str:
    """One row for each code that the gateway may send, in the order of the numbers."""
    rows = [f"| {code.value} | {code.name.lower().replace('_', ' ')} | {ADVICE[code]} |" for code in sorted(CloseCode)]
    return "\n".join(["| code | meaning | what the client does |", "|---|---|---|", *rows])


def with_table(text: str) -> str:
    """The page with the table between its markers as it is now.

    Raises:
        ValueError: Not exactly one of each marker, in their order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise ValueError(f"one {BEGIN} and, behind it, one {END} are needed")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def check(readme: Path = _README) -> bool:
    """Whether the page is as it would be written now. Raises what `with_table` does."""
    text = readme.read_text(encoding="utf-8")
    return with_table(text) == text


def write(readme: Path = _README) -> bool:
    """Write the table into the page; whether anything changed. Raises what `with_table` does."""
    if check(readme):
        return False
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status: 1 if `--check` found a difference."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the table is not up to date")
    if parser.parse_args(arguments).check:
        if check():
            return 0
        print(f"the close codes in README.md are not up to date: run {_COMMAND}", file=sys.stderr)
        return 1
    if write():
        print("wrote README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
