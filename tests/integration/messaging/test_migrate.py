"""Migrations: every script has its version, all or nothing, two at once, again, and what `--check` says."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from tests.integration.processes import environment
from tidings.errors import DatabaseUnavailable
from tidings.messaging import migrating
from tidings.messaging.migrating import HEAD, VERSIONS, current, migrate, missing
from tidings.postgres.databases import create_database, drop_database
from tidings.postgres.ladder import Server

FOLDER = Path(migrating.__file__).with_name("migrations")


@pytest.fixture
def empty_dsn(postgres: Server) -> Iterator[str]:
    """A database without tables."""
    name = f"tidings_empty_{secrets.token_hex(4)}"
    create_database(postgres.dsn, name)
    yield urlunsplit(urlsplit(postgres.dsn)._replace(path=f"/{name}"))
    drop_database(postgres.dsn, name)


async def version_of(dsn: str) -> str | None:
    connection = await asyncpg.connect(dsn)
    try:
        return await current(connection)
    finally:
        await connection.close()


def tidings(dsn: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tidings.cli", *arguments],
        env=environment(TIDINGS_POSTGRES_DSN=dsn),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_script_has_a_version_of_its_own_and_they_form_one_line() -> None:
    scripts = sorted(file.stem for file in (FOLDER / "versions").glob("*.sql"))
    assert scripts == sorted(file.stem for file in (FOLDER / "versions").glob("[0-9]*.py"))
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    walked = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert list(reversed(walked)) == list(VERSIONS)
    assert VERSIONS[-1] == HEAD


async def test_an_empty_database_gets_every_version_and_a_second_run_does_nothing(empty_dsn: str) -> None:
    assert await version_of(empty_dsn) is None
    assert migrate(empty_dsn) == list(VERSIONS)
    assert await version_of(empty_dsn) == HEAD
    assert migrate(empty_dsn) == []


def test_of_two_migrations_at_once_one_does_the_work(empty_dsn: str) -> None:
    with ThreadPoolExecutor(3) as threads:
        done = list(threads.map(lambda _: tidings(empty_dsn, "migrate"), range(3)))
    assert [each.returncode for each in done] == [0, 0, 0], done
    assert sum("applied: " in each.stdout for each in done) == 1, done


async def test_a_migration_that_fails_leaves_nothing(empty_dsn: str) -> None:
    connection = await asyncpg.connect(empty_dsn)
    try:
        # Stands in the way of the first version, after others of its tables have been made.
        await connection.execute("CREATE TABLE outbox (mine int)")
        with pytest.raises(DatabaseUnavailable, match="outbox"):
            migrate(empty_dsn)
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert [row["tablename"] for row in tables] == ["outbox"]
    finally:
        await connection.close()


async def test_members_of_before_the_column_are_newcomers_to_older_tokens_and_to_no_later_one(empty_dsn: str) -> None:
    scripts = {file.stem[:4]: file.read_text() for file in (FOLDER / "versions").glob("*.sql")}
    connection = await asyncpg.connect(empty_dsn)
    try:
        for version in VERSIONS[: VERSIONS.index("0004")]:
            await connection.execute(scripts[version])
        await connection.execute(
            "INSERT INTO users (id) VALUES ('alice');"
            " INSERT INTO chats (id, kind, creator_id) VALUES (gen_random_uuid(), 'group', 'alice')"
        )
        before = int(await connection.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text"))
        await connection.execute("INSERT INTO members (chat_id, user_id) SELECT id, 'alice' FROM chats")
        rows = await connection.fetchval("SELECT pg_relation_filenode('members')")
        await connection.execute(scripts["0004"])
        after = int(await connection.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text"))
        assert before <= int(await connection.fetchval("SELECT joined::text FROM members")) < after
        assert await connection.fetchval("SELECT pg_relation_filenode('members')") == rows, "the table was rewritten"
    finally:
        await connection.close()


async def test_blocks_of_deleted_chats_and_likes_of_present_members_come_along(empty_dsn: str) -> None:
    scripts = sorted((FOLDER / "versions").glob("*.sql"))
    place = next(place for place, file in enumerate(scripts) if file.stem.endswith("_blocks_and_answers"))
    connection = await asyncpg.connect(empty_dsn)
    try:
        for script in scripts[:place]:
            await connection.execute(script.read_text())
        await connection.execute("INSERT INTO users (id) SELECT unnest(ARRAY['alice', 'bob', 'carol', 'dave', 'eve'])")

        async def chat(kind: str, *members: str, blocked_by: str = "", deleted: bool = False) -> Any:
            id_ = await connection.fetchval(
                "INSERT INTO chats (id, kind, creator_id, deleted_at)"
                " VALUES (gen_random_uuid(), $1, $2, CASE WHEN $3 THEN now() END) RETURNING id",
                kind,
                members[0],
                deleted,
            )
            await connection.execute(
                "INSERT INTO members (chat_id, user_id, blocked_at)"
                " SELECT $1, id, CASE WHEN id = $3 THEN now() END FROM unnest($2::text[]) id",
                id_,
                members,
                blocked_by,
            )
            return id_

        await chat("personal", "alice", "bob", blocked_by="bob", deleted=True)
        await chat("personal", "alice", "bob", blocked_by="alice", deleted=True)
        await chat("personal", "alice", "carol", blocked_by="alice", deleted=True)
        await chat("personal", "alice", "carol")
        await chat("personal", "alice", "dave", blocked_by="alice")
        await chat("personal", "alice", "eve", deleted=True)
        group = await chat("group", "alice", "bob", "carol")
        await connection.execute("UPDATE members SET left_at = now() WHERE chat_id = $1 AND user_id = 'bob'", group)
        await connection.execute("INSERT INTO likes (chat_id, user_id) SELECT $1, unnest(ARRAY['alice', 'bob'])", group)
        await connection.execute(scripts[place].read_text())
        blocks = await connection.fetch("SELECT user_id, other_id FROM blocks")
        assert [tuple(row) for row in blocks] == [("alice", "bob")]
        assert [row["user_id"] for row in await connection.fetch("SELECT user_id FROM likes")] == ["alice"]
    finally:
        await connection.close()


def test_what_a_version_lacks() -> None:
    assert missing(None) == list(VERSIONS)
    assert missing(VERSIONS[0]) == list(VERSIONS[1:])
    assert missing(HEAD) == []
    assert missing("9999") == [], "a database that is newer than this release lacks nothing"


async def test_the_command_says_what_it_did_and_check_changes_nothing(empty_dsn: str) -> None:
    found = tidings(empty_dsn, "migrate", "--check")
    assert (found.returncode, found.stdout.split()[-len(VERSIONS) :]) == (1, list(VERSIONS)), found
    assert await version_of(empty_dsn) is None
    done = tidings(empty_dsn, "migrate")
    assert done.returncode == 0, done
    assert HEAD in done.stdout
    assert tidings(empty_dsn, "migrate", "--check").returncode == 0
    assert tidings(empty_dsn, "migrate").stdout.strip() == f"nothing to do: the database has version {HEAD}"


def test_a_server_that_is_away_is_told_without_the_password() -> None:
    done = tidings("postgresql://tidings:hunter2@127.0.0.1:1/tidings", "migrate")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
