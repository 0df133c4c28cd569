"""`--print-settings` is about the groups that the service itself loads."""

from typing import Any

import pytest
from click.testing import CliRunner

from tidings import config
from tidings.cli import gateway as gateway_command
from tidings.cli import messaging as messaging_command
from tidings.gateway import app as gateway_app
from tidings.messaging import app as messaging_app


class Loaded(Exception):
    """Carries what was asked for."""


def loading(*groups: type[config.SettingsGroup], environ: object = None) -> None:
    raise Loaded(*groups)


@pytest.mark.parametrize(
    ("command", "app"), [(gateway_command.gateway, gateway_app), (messaging_command.messaging, messaging_app)]
)
def test_the_groups_are_those_that_the_service_loads(monkeypatch: pytest.MonkeyPatch, command: Any, app: Any) -> None:
    monkeypatch.setattr(app, "load", loading)
    monkeypatch.setattr(config, "load", loading)
    with pytest.raises(Loaded) as by_the_service:
        app.run()
    shown = CliRunner().invoke(command, ["--print-settings"]).exception
    assert isinstance(shown, Loaded)
    assert set(shown.args) == set(by_the_service.value.args)
    assert sorted(shown.args, key=config.GROUPS.index) == list(shown.args), "in the order of docs/settings.md"
