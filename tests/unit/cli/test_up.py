"""The pure parts of `tidings up` and of its page."""

import base64
import hashlib
from pathlib import Path

import pytest

from tidings.cli import page
from tidings.cli import up as up_module
from tidings.cli.banner import banner
from tidings.cli.doctor import file_limit
from tidings.cli.state import UpState
from tidings.cli.up import _can_start_kafka, _environment
from tidings.cli.up_ports import Ports

PORTS = Ports(1, 2, 3, 4, 5, 6, 7, 8, 9)


def test_each_port_has_its_flag() -> None:
    flags = dict(PORTS.named(kafka=True, postgres=True))
    assert flags[4] == "--second-admin-port"
    assert flags[6] == "--kafka-port"
    assert flags[7] == "--messaging-port"
    assert flags[9] == "--postgres-port"
    assert set(dict(PORTS.named(kafka=False, postgres=True))) == set(flags) - {6}
    assert set(dict(PORTS.named(kafka=True, postgres=False))) == set(flags) - {9}


def test_children_get_what_up_decides_and_nothing_that_is_up_s_own() -> None:
    environ = {"TIDINGS_UP_PORT": "1", "TIDINGS_GATEWAY_PORT": "9", "TIDINGS_LOG_FORMAT": "json", "PATH": "/bin"}
    child = _environment(environ, {"TIDINGS_KAFKA_BOOTSTRAP_SERVERS": "k:1"}, "secret", "http://127.0.0.1:8070")
    assert "TIDINGS_UP_PORT" not in child
    assert child["PATH"] == "/bin"
    assert child["TIDINGS_LOG_FORMAT"] == "json"
    assert child["TIDINGS_KAFKA_BOOTSTRAP_SERVERS"] == "k:1"
    assert child["TIDINGS_GATEWAY_HOST"] == "127.0.0.1"
    assert child["TIDINGS_GATEWAY_ORIGINS"] == "http://127.0.0.1:8070,http://localhost:8070"
    assert child["TIDINGS_MESSAGING_HOST"] == child["TIDINGS_MESSAGING_ADMIN_HOST"] == "127.0.0.1"
    assert child["TIDINGS_MESSAGING_ORIGINS"] == child["TIDINGS_GATEWAY_ORIGINS"]


def test_further_origins_of_the_environment_stay() -> None:
    child = _environment({"TIDINGS_GATEWAY_ORIGINS": "https://a.example"}, {}, "s", "http://127.0.0.1:1")
    assert child["TIDINGS_GATEWAY_ORIGINS"].endswith(",https://a.example")


def test_the_page_s_policy_allows_its_own_script_and_no_other() -> None:
    html = (Path(page.__file__).parent / "page_files" / "index.html").read_text(encoding="utf-8")
    script = html.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = page.policy(html)
    assert f"script-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_page_needs_nothing_from_elsewhere_and_sets_no_html() -> None:
    html = (Path(page.__file__).parent / "page_files" / "index.html").read_text(encoding="utf-8")
    assert "http://" not in html
    assert "https://" not in html
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert name not in html


def test_a_low_limit_of_open_files_is_noted() -> None:
    assert file_limit(1024).state == "note"
    assert file_limit(20_000).state == "ok"


def test_the_line_for_kcat_names_broker_and_topic_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: "/usr/bin/kcat" if program == "kcat" else None)
    state = UpState([], "127.0.0.1:9192", None, [], "postgresql://127.0.0.1/tidings")
    line = next(line for line in banner(state, Path(".tidings"), "chat.changes").splitlines() if "kcat" in line)
    assert line.endswith("| kcat -P -b 127.0.0.1:9192 -t chat.changes")


@pytest.mark.parametrize(
    ("missing", "engine", "can"), [(None, None, True), ("no java", "28.0", True), ("no java", None, False)]
)
def test_only_docker_or_the_jars_start_a_kafka_on_its_port(
    monkeypatch: pytest.MonkeyPatch, missing: str | None, engine: str | None, can: bool
) -> None:
    monkeypatch.setattr(up_module, "find_tools", lambda: missing)
    monkeypatch.setattr(up_module, "docker_version", lambda: engine)
    assert _can_start_kafka() is can
