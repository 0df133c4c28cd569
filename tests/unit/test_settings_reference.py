"""The pages are complete and the check sees a difference."""

from pathlib import Path

import pytest

from tidings.cli import settings_reference
from tidings.config import GROUPS
from tidings.config.groups import variable
from tidings.metric_specs import SPECS


def test_the_pages_in_docs_are_up_to_date() -> None:
    assert settings_reference.check() == []
    assert settings_reference.main(["--check"]) == 0


def test_every_setting_and_metric_is_there() -> None:
    page = settings_reference.settings_page()
    for group in GROUPS:
        for field in group.model_fields:
            assert f"| `{variable(group, field)}` |" in page
    for name, spec in SPECS.items():
        assert f"| `{name}` | {spec.kind} |" in settings_reference.metrics_page()


def test_write_then_check(tmp_path: Path) -> None:
    assert len(settings_reference.check(tmp_path)) == 2
    assert len(settings_reference.write(tmp_path)) == 2
    assert settings_reference.check(tmp_path) == []
    (tmp_path / "metrics.md").write_text("old")
    assert settings_reference.write(tmp_path) == [tmp_path / "metrics.md"]


def test_the_check_fails_on_a_difference(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(settings_reference, "check", lambda: [Path("docs/settings.md")])
    assert settings_reference.main(["--check"]) == 1
    assert "docs/settings.md is not up to date" in capsys.readouterr().err
