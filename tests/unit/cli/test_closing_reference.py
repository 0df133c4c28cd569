"""README's table of close codes is complete, and the check sees a difference."""

from pathlib import Path

import pytest

from tidings.cli import closing_reference
from tidings.cli.closing_reference import BEGIN, END
from tidings.closing import ADVICE, CloseCode


def test_the_table_in_readme_is_up_to_date() -> None:
    assert closing_reference.check()
    assert closing_reference.main(["--check"]) == 0


def test_every_code_has_its_advice() -> None:
    rows = closing_reference.table().splitlines()[2:]
    assert len(rows) == len(CloseCode)
    for code, row in zip(sorted(CloseCode), rows, strict=True):
        assert row.startswith(f"| {code.value} | ")
        assert row.endswith(f" | {ADVICE[code]} |")


def test_write_changes_only_what_is_between_the_markers(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# One\n\n{BEGIN}\nold\n{END}\n\nTwo |\n")
    assert not closing_reference.check(readme)
    assert closing_reference.write(readme)
    assert closing_reference.check(readme)
    assert not closing_reference.write(readme)
    text = readme.read_text()
    assert text.startswith(f"# One\n\n{BEGIN}\n| code |")
    assert text.endswith(f" |\n{END}\n\nTwo |\n")
    assert "old" not in text


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_without_its_two_markers_nothing_is_written(text: str) -> None:
    with pytest.raises(ValueError, match="are needed"):
        closing_reference.with_table(text)


def test_the_check_fails_on_a_difference(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(closing_reference, "check", lambda: False)
    assert closing_reference.main(["--check"]) == 1
    assert "close codes in README.md are not up to date" in capsys.readouterr().err
