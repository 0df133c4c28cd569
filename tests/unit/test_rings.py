"""The three rings: imports point from app to edge to pure and never back, and services don't know each other."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import pytest

Ring = Literal["pure", "edge", "app"]

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = (ROOT / "services", ROOT / "shared")

RINGS: Final[dict[str, Ring]] = {
    # shared
    "tidings.admin_port": "edge",
    "tidings.children": "edge",
    "tidings.clock": "edge",
    "tidings.closing": "pure",
    "tidings.config": "edge",
    "tidings.config.gateway": "edge",
    "tidings.config.jwt": "edge",
    "tidings.config.kafka": "edge",
    "tidings.config.log": "edge",
    "tidings.config.messaging": "edge",
    "tidings.config.postgres": "edge",
    "tidings.contract": "pure",
    "tidings.contract.asyncapi": "pure",
    "tidings.contract.control": "pure",
    "tidings.contract.events": "pure",
    "tidings.contract.parts": "pure",
    "tidings.contract.record": "pure",
    "tidings.contract.schemas": "pure",
    "tidings.errors": "pure",
    "tidings.jwks": "edge",
    "tidings.kafka": "pure",
    "tidings.kafka.apache": "edge",
    "tidings.kafka.apache_jars": "edge",
    "tidings.kafka.availability": "edge",
    "tidings.kafka.batches": "pure",
    "tidings.kafka.connection": "edge",
    "tidings.kafka.embedded": "edge",
    "tidings.kafka.fetch_codec": "edge",
    "tidings.kafka.fetch_connection": "edge",
    "tidings.kafka.fetch_session": "edge",
    "tidings.kafka.ladder": "edge",
    "tidings.kafka.pacing": "pure",
    "tidings.kafka.positions": "edge",
    "tidings.kafka.reachability": "edge",
    "tidings.kafka.reader": "edge",
    "tidings.kafka.cluster": "edge",
    "tidings.kafka.source": "edge",
    "tidings.kafka.topic_specs": "edge",
    "tidings.kafka.topics": "edge",
    "tidings.keys": "pure",
    "tidings.log": "edge",
    "tidings.log_limit": "pure",
    "tidings.metric_specs": "pure",
    "tidings.metrics": "edge",
    "tidings.open_files": "edge",
    "tidings.origins": "pure",
    "tidings.ports": "edge",
    "tidings.postgres": "pure",
    "tidings.postgres.databases": "edge",
    "tidings.postgres.embedded": "edge",
    "tidings.postgres.ladder": "edge",
    "tidings.postgres.local": "edge",
    "tidings.producer": "edge",
    "tidings.redaction": "pure",
    "tidings.config.values": "edge",
    "tidings.config.groups": "edge",
    "tidings.token_keys": "edge",
    "tidings.token_sources": "pure",
    "tidings.tokens": "pure",
    "tidings.uuid7": "pure",
    # gateway
    "tidings.gateway": "pure",
    "tidings.gateway.admission": "edge",
    "tidings.gateway.allowance": "pure",
    "tidings.gateway.app": "app",
    "tidings.gateway.arrival": "edge",
    "tidings.gateway.backlog": "pure",
    "tidings.gateway.connection": "edge",
    "tidings.gateway.consumer": "edge",
    "tidings.gateway.cursor": "pure",
    "tidings.gateway.cursor_check": "edge",
    "tidings.gateway.dialogue": "edge",
    "tidings.gateway.drain": "pure",
    "tidings.gateway.farewell": "edge",
    "tidings.gateway.frames": "pure",
    "tidings.gateway.greeting": "pure",
    "tidings.gateway.handshake": "pure",
    "tidings.gateway.lanes": "pure",
    "tidings.gateway.log_edges": "edge",
    "tidings.gateway.log_watch": "edge",
    "tidings.gateway.node": "edge",
    "tidings.gateway.outlet": "edge",
    "tidings.gateway.protocols": "pure",
    "tidings.gateway.protocols.native": "pure",
    "tidings.gateway.purse": "edge",
    "tidings.gateway.readback": "edge",
    "tidings.gateway.refusals": "pure",
    "tidings.gateway.registry": "pure",
    "tidings.gateway.repeats": "pure",
    "tidings.gateway.replay": "pure",
    "tidings.gateway.resumes": "edge",
    "tidings.gateway.router": "pure",
    "tidings.gateway.session": "pure",
    "tidings.gateway.stats": "edge",
    "tidings.gateway.timers": "pure",
    "tidings.gateway.topic_check": "edge",
    "tidings.gateway.window": "pure",
    "tidings.gateway.token_sources": "pure",
    "tidings.gateway.turnstile": "edge",
    "tidings.gateway.workers": "edge",
    "tidings.gateway.wsframes": "pure",
    # messaging
    "tidings.messaging": "pure",
    "tidings.messaging.app": "app",
    "tidings.messaging.health": "edge",
    "tidings.messaging.http.routes": "edge",
    "tidings.messaging.http.connection": "edge",
    "tidings.messaging.http.server": "edge",
    "tidings.messaging.store.pool": "edge",
    "tidings.messaging.commands": "edge",
    "tidings.messaging.commands.chats": "edge",
    "tidings.messaging.commands.files": "edge",
    "tidings.messaging.commands.gathering": "edge",
    "tidings.messaging.commands.groups": "edge",
    "tidings.messaging.commands.secrets": "edge",
    "tidings.messaging.commands.telling": "edge",
    "tidings.messaging.commands.messages": "edge",
    "tidings.messaging.commands.sending": "edge",
    "tidings.messaging.commands.updates": "edge",
    "tidings.messaging.context": "pure",
    "tidings.messaging.domain": "pure",
    "tidings.messaging.domain.grouping": "pure",
    "tidings.messaging.domain.limits": "pure",
    "tidings.messaging.domain.model": "pure",
    "tidings.messaging.domain.modification": "pure",
    "tidings.messaging.domain.rules": "pure",
    "tidings.messaging.domain.writing": "pure",
    "tidings.messaging.expiry": "edge",
    "tidings.messaging.http": "pure",
    "tidings.messaging.http.answers": "pure",
    "tidings.messaging.http.app": "edge",
    "tidings.messaging.http.bodies": "edge",
    "tidings.messaging.http.cors": "pure",
    "tidings.messaging.http.guard": "edge",
    "tidings.messaging.http.idempotency": "edge",
    "tidings.messaging.http.limits": "pure",
    "tidings.messaging.http.problems": "pure",
    "tidings.messaging.http.replies": "edge",
    "tidings.messaging.http.requests": "edge",
    "tidings.messaging.http.routing": "edge",
    "tidings.messaging.http.schema": "edge",
    "tidings.messaging.http.chats": "edge",
    "tidings.messaging.http.groups": "edge",
    "tidings.messaging.migrating": "edge",
    "tidings.messaging.migrations": "pure",
    "tidings.messaging.migrations.env": "edge",
    "tidings.messaging.migrations.script": "edge",
    "tidings.messaging.migrations.versions.0001_model": "edge",
    "tidings.messaging.migrations.versions.0002_sync": "edge",
    "tidings.messaging.migrations.versions.0003_relay": "edge",
    "tidings.messaging.migrations.versions.0004_joined": "edge",
    "tidings.messaging.migrations.versions.0005_chosen": "edge",
    "tidings.messaging.migrations.versions.0006_reading_bounds": "edge",
    "tidings.messaging.migrations.versions.0007_blocks_and_answers": "edge",
    "tidings.messaging.relay": "pure",
    "tidings.messaging.relay.locks": "edge",
    "tidings.messaging.relay.notify": "edge",
    "tidings.messaging.relay.postgres": "edge",
    "tidings.messaging.relay.producing": "edge",
    "tidings.messaging.relay.relay": "edge",
    "tidings.messaging.relay.rows": "edge",
    "tidings.messaging.relay.carrier": "edge",
    "tidings.messaging.relay.sharing": "pure",
    "tidings.messaging.relay.thread": "edge",
    "tidings.messaging.store": "pure",
    "tidings.messaging.store.answer": "pure",
    "tidings.messaging.store.chats": "edge",
    "tidings.messaging.store.database": "edge",
    "tidings.messaging.store.files": "edge",
    "tidings.messaging.store.idempotency": "edge",
    "tidings.messaging.store.members": "edge",
    "tidings.messaging.store.expiry": "edge",
    "tidings.messaging.store.results": "edge",
    "tidings.messaging.store.unit": "edge",
    "tidings.messaging.store.messages": "edge",
    "tidings.messaging.store.updates": "edge",
    "tidings.messaging.store.writing": "edge",
    "tidings.messaging.store.reading": "edge",
    "tidings.messaging.http.updates": "edge",
    "tidings.messaging.wire": "pure",
    "tidings.messaging.commands.history": "edge",
    "tidings.messaging.commands.likes": "edge",
    "tidings.messaging.commands.marks": "edge",
    "tidings.messaging.commands.sync": "edge",
    "tidings.messaging.commands.together": "edge",
    "tidings.messaging.commands.typing": "edge",
    "tidings.messaging.commands.users": "edge",
    "tidings.messaging.domain.entry": "pure",
    "tidings.messaging.domain.profile": "pure",
    "tidings.messaging.domain.sync": "pure",
    "tidings.messaging.http.history": "edge",
    "tidings.messaging.http.marks": "edge",
    "tidings.messaging.http.sync": "edge",
    "tidings.messaging.http.users": "edge",
    "tidings.messaging.listing": "pure",
    "tidings.messaging.signals": "edge",
    "tidings.messaging.store.entries": "edge",
    "tidings.messaging.store.history": "edge",
    "tidings.messaging.store.likes": "edge",
    "tidings.messaging.store.marks": "edge",
    "tidings.messaging.store.sync": "edge",
    "tidings.messaging.store.users": "edge",
    # cli
    "tidings.cli": "app",
    "tidings.cli.__main__": "app",
    "tidings.cli.bench": "app",
    "tidings.cli.bench.baseline": "app",
    "tidings.cli.bench.command": "app",
    "tidings.cli.bench.engines": "app",
    "tidings.cli.bench.gaps": "app",
    "tidings.cli.bench.handshakes": "app",
    "tidings.cli.bench.histogram": "pure",
    "tidings.cli.bench.floor": "app",
    "tidings.cli.bench.idle": "app",
    "tidings.cli.bench.keeping": "app",
    "tidings.cli.bench.load": "app",
    "tidings.cli.bench.machine": "app",
    "tidings.cli.bench.measure": "app",
    "tidings.cli.bench.messaging": "app",
    "tidings.cli.bench.processes": "app",
    "tidings.cli.bench.producer": "app",
    "tidings.cli.bench.reconnect": "app",
    "tidings.cli.bench.replays": "app",
    "tidings.cli.bench.report": "app",
    "tidings.cli.bench.resume": "app",
    "tidings.cli.bench.rig": "app",
    "tidings.cli.bench.run": "app",
    "tidings.cli.bench.schedule": "app",
    "tidings.cli.bench.senders": "app",
    "tidings.cli.bench.shapes": "app",
    "tidings.cli.bench.summary": "app",
    "tidings.cli.bench.targets": "app",
    "tidings.cli.bench.tokens": "app",
    "tidings.cli.bench.walker": "pure",
    "tidings.cli.bench.writes": "app",
    "tidings.cli.closing_reference": "app",
    "tidings.cli.doctor": "app",
    "tidings.cli.gateway": "app",
    "tidings.cli.main": "app",
    "tidings.cli.messaging": "app",
    "tidings.cli.migrate": "app",
    "tidings.cli.banner": "app",
    "tidings.cli.page": "app",
    "tidings.cli.up_ports": "app",
    "tidings.cli.place": "pure",
    "tidings.cli.produce": "app",
    "tidings.cli.schemas": "app",
    "tidings.cli.settings_reference": "app",
    "tidings.cli.state": "app",
    "tidings.cli.supervise": "app",
    "tidings.cli.tail": "app",
    "tidings.cli.token": "app",
    "tidings.cli.topics": "app",
    "tidings.cli.up": "app",
}
"""Every module of ours and its ring. A new module is added here, and its author decides what it may know."""

MAY_IMPORT: Final[dict[Ring, frozenset[Ring]]] = {
    "pure": frozenset({"pure"}),
    "edge": frozenset({"pure", "edge"}),
    "app": frozenset({"pure", "edge", "app"}),
}

PURE_STANDARD: Final = (
    "array",
    "base64",
    "binascii",
    "bisect",
    "codecs",
    "collections",
    "dataclasses",
    "datetime",  # its values; that nobody asks it for the time is a test of its own
    "enum",
    "functools",
    "hashlib",
    "http",
    "ipaddress",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "string",
    "struct",
    "types",
    "typing",
    "urllib.parse",
    "uuid",
    "zlib",
)
"""Of the standard library what pure modules use: no clock, no environment, no file, no socket, no thread, no chance."""

PURE_LIBRARIES: Final = (
    "msgspec",
    "jwt",
    "cryptography",
    "aiokafka.record",  # parses bytes, connects to nothing
    # the Sans-I/O part of websockets
    "websockets.datastructures",
    "websockets.exceptions",
    "websockets.extensions",
    "websockets.frames",
    "websockets.http11",
    "websockets.server",
    "websockets.speedups",
    "websockets.streams",
    "websockets.typing",
    "websockets.utils",
)
ENTROPY: Final = frozenset({"uuid1", "uuid4", "uuid6", "uuid7", "uuid8", "getnode"})


def module_name(file: Path) -> str:
    root = next(source for source in SOURCES if file.is_relative_to(source))
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES: Final = {module_name(file): file for source in SOURCES for file in sorted(source.rglob("*.py"))}


def imports(source: str) -> Iterator[str]:
    """Every name that the source imports, wherever it does: `a.b` for `import a.b`, `a.b.c` for `from a.b import c`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(name: str) -> str | None:
    """The module of ours that an imported name is, or is in; None: another's."""
    if name.partition(".")[0] != "tidings":
        return None
    return name if name in FILES else name.rpartition(".")[0]


def service(module: str) -> str | None:
    """Which service a module belongs to; None: shared."""
    return module.split(".")[1] if FILES[module].is_relative_to(ROOT / "services") else None


def under(name: str, allowed: str) -> bool:
    return name == allowed or name.startswith(f"{allowed}.")


def test_every_module_has_a_ring_and_every_ring_a_module() -> None:
    assert sorted(FILES) == sorted(RINGS)


@pytest.mark.parametrize("module", FILES)
def test_imports_point_from_app_to_edge_to_pure(module: str) -> None:
    assert module in RINGS, "add it to RINGS"
    ring = RINGS[module]
    for name in imports(FILES[module].read_text(encoding="utf-8")):
        imported = ours(name)
        if imported is not None:
            assert imported in RINGS, f"{module} imports {name}, which is no module"
            assert RINGS[imported] in MAY_IMPORT[ring], f"{module} ({ring}) imports {imported} ({RINGS[imported]})"


@pytest.mark.parametrize("module", [module for module, ring in RINGS.items() if ring == "pure" and module in FILES])
def test_a_pure_module_knows_no_clock_environment_socket_or_client_library(module: str) -> None:
    for name in imports(FILES[module].read_text(encoding="utf-8")):
        if ours(name) is not None:
            continue
        known = any(under(name, allowed) for allowed in (*PURE_STANDARD, *PURE_LIBRARIES))
        assert known, f"{module} is pure and imports {name}"
        assert name not in ("http.client", "http.server"), f"{module} is pure and imports {name}"
        assert not (name.startswith("uuid.") and name[5:] in ENTROPY), f"{module} is pure and imports {name}"


@pytest.mark.parametrize("module", [name for name, ring in RINGS.items() if ring == "pure"])
def test_a_pure_module_does_not_ask_what_time_it_is(module: str) -> None:
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            asked = node.value.id in ("datetime", "date") and node.attr in ("now", "utcnow", "today")
            assert not asked, f"{module}:{node.lineno} is pure and calls {node.value.id}.{node.attr}()"


@pytest.mark.parametrize("module", FILES)
def test_services_know_shared_modules_and_themselves_only(module: str) -> None:
    mine = service(module)
    for imported in map(ours, imports(FILES[module].read_text(encoding="utf-8"))):
        if imported is None or mine == "cli":
            continue
        assert service(imported) in (None, mine), f"{module} imports {imported}"


@pytest.mark.parametrize("name", ["gateway", "messaging"])
def test_nothing_imports_a_services_wiring_but_the_command_that_starts_it(name: str) -> None:
    importers = {
        module
        for module, file in FILES.items()
        for imported in imports(file.read_text(encoding="utf-8"))
        if ours(imported) == f"tidings.{name}.app"
    }
    assert importers == {f"tidings.cli.{name}"}


def test_the_walk_sees_imports_wherever_they_stand() -> None:
    source = "import a.b\nfrom c.d import e, f as g\nif x:\n    def h():\n        from tidings.kafka import source\n"
    assert list(imports(source)) == ["a.b", "c.d.e", "c.d.f", "tidings.kafka.source"]
    assert ours("tidings.kafka.source") == "tidings.kafka.source"
    assert ours("tidings.errors.ConfigError") == "tidings.errors"
    assert ours("msgspec.json") is None
