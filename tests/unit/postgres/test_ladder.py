"""Which rung to a Postgres is taken, with the rungs themselves replaced; and where the data goes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tidings.errors import DatabaseUnavailable
from tidings.postgres import ladder
from tidings.postgres.databases import place_of
from tidings.postgres.ladder import Rung, Server

NOWHERE = Path("unused")
NAMED = {"TIDINGS_POSTGRES_DSN": "postgresql://me:hunter2@db:6432/chats"}


def missing(why: str) -> Callable[..., Server]:
    def rung(*arguments: object) -> Server:
        raise DatabaseUnavailable(why)

    return rung


def there(name: Rung) -> Callable[..., Server]:
    def rung(*arguments: object) -> Server:
        skipped = next(part for part in arguments if isinstance(part, tuple))
        return Server(name, "postgresql://me:hunter2@h/d", "a server", skipped)

    return rung


def only_embedded(rung: Rung, *arguments: object) -> Server:
    return missing("none installed")() if rung == "machine" else there(rung)(*arguments)


def test_the_first_rung_that_can_be_had_is_taken_and_the_others_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "_with_docker", missing("no engine"))
    monkeypatch.setattr(ladder, "_on_this_machine", only_embedded)
    server = ladder.start(NOWHERE, environ={})
    assert server.rung == "embedded"
    assert server.describe() == (
        "Postgres: a server (not environment: TIDINGS_POSTGRES_DSN is not set; not docker: no engine;"
        " not machine: none installed)"
    )
    assert "hunter2" not in server.describe()


def test_a_named_server_that_does_not_answer_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "_from_environment", missing("db does not answer"))
    monkeypatch.setattr(ladder, "_with_docker", there("docker"))
    with pytest.raises(DatabaseUnavailable, match="db does not answer"):
        ladder.start(NOWHERE, environ=NAMED)


def test_a_named_server_that_is_too_old_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "server_version", lambda dsn: 13)
    with pytest.raises(DatabaseUnavailable) as caught:
        ladder.start(NOWHERE, environ=NAMED)
    assert "(db:6432/chats) is PostgreSQL 13, and it takes 14 at least" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    monkeypatch.setattr(ladder, "server_version", lambda dsn: 14)
    server = ladder.start(NOWHERE, environ=NAMED)
    assert (server.rung, server.environment()) == ("environment", NAMED)


def test_one_rung_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "find_programs", lambda: None)
    with pytest.raises(DatabaseUnavailable, match="machine: no PostgreSQL 14 or newer is installed"):
        ladder.start(NOWHERE, environ={}, only="machine")


def test_a_blank_variable_names_no_server() -> None:
    assert ladder.needs_port({"TIDINGS_POSTGRES_DSN": " "})
    assert not ladder.needs_port(NAMED)


def test_root_puts_the_data_where_the_server_s_user_can_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ladder, "server_user", lambda: "nobody")
    monkeypatch.setattr(ladder, "_open_to_all", lambda folder: True)
    assert ladder.data_folder(tmp_path) == tmp_path.resolve()
    monkeypatch.setattr(ladder, "_open_to_all", lambda folder: False)
    folder = ladder.data_folder(tmp_path)
    try:
        assert folder.parent == Path("/var/tmp")
        assert folder == ladder.data_folder(tmp_path), "the next start finds it again"
    finally:
        folder.rmdir()
    monkeypatch.setattr(ladder, "server_user", lambda: None)
    assert ladder.data_folder(tmp_path) == tmp_path.resolve()


@pytest.mark.parametrize(
    ("dsn", "place"),
    [
        ("postgresql://me:hunter2@db:6432/chats?sslmode=require", "db:6432/chats"),
        ("postgresql:///chats?host=/run/postgresql", "/run/postgresql:5432/chats"),
        ("postgresql://db", "db:5432"),
        ("nonsense", "the default host:5432nonsense"),
    ],
)
def test_a_place_never_holds_the_password(dsn: str, place: str) -> None:
    assert place_of(dsn) == place
