"""`tidings up`: the whole system on this machine, for a first look and for development."""

import fcntl
import http.client
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click

from tidings.cli.banner import banner
from tidings.cli.doctor import docker_version
from tidings.cli.state import GatewayAddress, UpState, User, demo_secret, given_secret, make_token, write_state
from tidings.cli.supervise import Interrupted, Supervisor
from tidings.cli.up_ports import HOST, Ports, busy_ports
from tidings.config import GatewaySettings, MessagingSettings, TopicSettings, load
from tidings.errors import ConfigError
from tidings.kafka import ladder, topics
from tidings.kafka.apache_jars import find_tools
from tidings.kafka.topic_specs import specs
from tidings.messaging.migrating import migrate
from tidings.postgres import ladder as postgres_ladder

__all__ = ["up"]

_PORT: Final = click.IntRange(1, 65535)
_USERS: Final = ("alice", "bob")
_TOKEN_TTL_S: Final = 30 * 86_400
_STOP_MARGIN_S: Final = 5


@click.command(
    short_help="Run the whole system on this machine.", context_settings={"auto_envvar_prefix": "TIDINGS_UP"}
)
@click.option("--port", default=8080, show_default=True, type=_PORT, metavar="PORT", help="First gateway.")
@click.option("--admin-port", default=9100, show_default=True, type=_PORT, metavar="PORT", help="Its admin port.")
@click.option("--second-port", default=8090, show_default=True, type=_PORT, metavar="PORT", help="Second gateway.")
@click.option(
    "--second-admin-port", default=9110, show_default=True, type=_PORT, metavar="PORT", help="Its admin port."
)
@click.option("--page-port", default=8070, show_default=True, type=_PORT, metavar="PORT", help="The demo page.")
@click.option(
    "--kafka-port",
    default=9092,
    show_default=True,
    type=_PORT,
    metavar="PORT",
    help="Kafka, if Docker or Apache's jars start it here; the embedded one takes any free port.",
)
@click.option(
    "--messaging-port", default=8081, show_default=True, type=_PORT, metavar="PORT", help="The messaging service."
)
@click.option(
    "--messaging-admin-port", default=9120, show_default=True, type=_PORT, metavar="PORT", help="Its admin port."
)
@click.option(
    "--postgres-port",
    default=5432,
    show_default=True,
    type=_PORT,
    metavar="PORT",
    help="Postgres, if it is started here.",
)
@click.option(
    "--kafka",
    "kafka",
    type=click.Choice(["auto", *ladder.RUNGS]),
    default="auto",
    show_default=True,
    help="Where Kafka comes from; auto takes the first of the others that can be had.",
)
@click.option(
    "--postgres",
    "postgres",
    type=click.Choice(["auto", *postgres_ladder.RUNGS]),
    default="auto",
    show_default=True,
    help="Where Postgres comes from, likewise.",
)
@click.pass_context
def up(
    ctx: click.Context,
    port: int,
    admin_port: int,
    second_port: int,
    second_admin_port: int,
    page_port: int,
    kafka_port: int,
    messaging_port: int,
    messaging_admin_port: int,
    postgres_port: int,
    kafka: str,
    postgres: str,
) -> None:
    """Run Kafka, Postgres, two gateway nodes, the messaging service and a demo page on 127.0.0.1, until Ctrl-C.

    Kafka is the one that TIDINGS_KAFKA_BOOTSTRAP_SERVERS names, else one in Docker, else Apache's own from its jars
    (Java and Maven), else one embedded here. Postgres is the one that TIDINGS_POSTGRES_DSN names, else one in Docker,
    else this machine's (14 or newer), else one from a Python wheel. When all is ready, addresses and tokens are printed
    and written to .tidings/up.json, where the other commands find them. Each option can also be set as
    TIDINGS_UP_<NAME>.

    \b
    Examples:
      tidings up
      tidings up --port 8180 --admin-port 9200
    """
    ports = Ports(
        port,
        admin_port,
        second_port,
        second_admin_port,
        page_port,
        kafka_port,
        messaging_port,
        messaging_admin_port,
        postgres_port,
    )
    state_dir: Path = ctx.obj
    gateway, service = load(GatewaySettings, MessagingSettings)
    topics_settings, secret = _prepare(state_dir, os.environ)
    kafka_here = kafka in {"docker", "apache"} or (kafka == "auto" and ladder.needs_port() and _can_start_kafka())
    postgres_here = postgres in {"docker", "machine", "embedded"} or (
        postgres == "auto" and postgres_ladder.needs_port()
    )
    with _locked(state_dir):
        if busy := busy_ports(ports, kafka=kafka_here, postgres=postgres_here):
            raise ConfigError(busy)
        grace_s = max(gateway.drain_s, 2 * service.drain_s) + _STOP_MARGIN_S
        supervisor = Supervisor(sys.stdout, ["gateway-1", "gateway-2", "messaging", "page"], grace_s)
        try:
            with supervisor.signals():
                rungs = tuple(None if rung == "auto" else rung for rung in (kafka, postgres))
                _run(supervisor, state_dir, ports, rungs, topics_settings, secret)
        except Interrupted:
            supervisor.say("stopped before all was ready")
        if supervisor.failure is not None:
            raise click.ClickException(supervisor.failure)


def _prepare(state_dir: Path, environ: Mapping[str, str]) -> tuple[TopicSettings, str]:
    state_dir.mkdir(parents=True, exist_ok=True)
    for name in ("PUBLIC_KEY", "PUBLIC_KEY_FILE", "JWKS_URL"):
        if environ.get(f"TIDINGS_JWT_{name}"):
            raise ConfigError([f"TIDINGS_JWT_{name}: `tidings up` makes tokens itself, which needs a shared secret"])
    secret = given_secret(environ) or demo_secret(state_dir)
    make_token("check", secret, environ, ttl_s=1)
    (names,) = load(TopicSettings, environ=environ)
    return names, secret


def _can_start_kafka() -> bool:
    """Whether this machine has what a Kafka of --kafka-port needs; else only the embedded one is left."""
    return find_tools() is None or docker_version() is not None


@contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    """Only one `up` for one state folder: two Kafkas on the same data would destroy it."""
    pid_file = state_dir / "up.pid"
    with open(pid_file, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise ConfigError(
                [f"--state-dir: `tidings up` already runs with {state_dir} (process {file.read().strip()})"]
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        (state_dir / "up.json").unlink(missing_ok=True)
        try:
            yield
        finally:
            (state_dir / "up.json").unlink(missing_ok=True)
            pid_file.unlink(missing_ok=True)


def _run(
    supervisor: Supervisor,
    state_dir: Path,
    ports: Ports,
    rungs: tuple[str | None, ...],
    names: TopicSettings,
    secret: str,
) -> None:
    # Here presence and the MQTT bridge join: started like the gateways, after what they need.
    kafka_rung, postgres_rung = rungs
    with ExitStack() as stack:
        postgres = stack.enter_context(
            postgres_ladder.start(
                state_dir,
                port=ports.postgres_port,
                only=postgres_rung,  # type: ignore[arg-type]  # click.Choice has checked it
                log=supervisor.say,
            )
        )
        supervisor.say(postgres.describe())
        if applied := migrate(postgres.dsn):
            supervisor.say(f"database brought to version {applied[-1]}")
        kafka = stack.enter_context(
            ladder.start(
                state_dir,
                port=ports.kafka_port,
                allow_embedded=True,
                only=kafka_rung,  # type: ignore[arg-type]  # as above
                log=supervisor.say,
            )
        )
        supervisor.say(kafka.describe())
        for log_file in filter(None, (kafka.log_file, postgres.log_file)):
            supervisor.say(f"its log: {log_file}")
        _have_topics(supervisor, kafka, names)
        state = _state(ports, kafka.bootstrap_servers, postgres.dsn, secret)
        environ = _environment(os.environ, {**kafka.environment(), **postgres.environment()}, secret, state.page or "")
        try:
            _start_all(supervisor, state_dir, ports, environ)

            def on_ready() -> None:
                write_state(state_dir, state)
                supervisor.say(banner(state, state_dir, names.modifications))

            admins = [state.messaging_admin, *(g.admin for g in state.gateways)]
            supervisor.run(
                lambda: all(_answers(f"{admin}/readyz") for admin in admins) and _answers(state.page or ""),
                on_ready,
                lambda: _broken("Kafka", kafka) or _broken("Postgres", postgres),
            )
        finally:
            supervisor.stop()
            (state_dir / "up.json").unlink(missing_ok=True)
        ours = [name for name, one in (("Kafka", kafka), ("Postgres", postgres)) if one.rung != "environment"]
        supervisor.say(f"services stopped; stopping {' and '.join(ours)}" if ours else "services stopped")
    supervisor.say("all stopped")


def _have_topics(supervisor: Supervisor, kafka: ladder.Broker, names: TopicSettings) -> None:
    if kafka.rung == "embedded":
        kafka.make_topics([spec.name for spec in specs(names)])
        return
    if made := topics.create(kafka.settings, names):
        supervisor.say(f"topics made: {', '.join(made)}")
    for line in topics.check(kafka.settings, names):
        supervisor.say(f"note: {line}")


def _start_all(supervisor: Supervisor, state_dir: Path, ports: Ports, environ: Mapping[str, str]) -> None:
    tidings = [sys.executable, "-m", "tidings.cli", "--state-dir", str(state_dir)]
    for index, (port, admin_port) in enumerate(_pairs(ports), 1):
        own = {
            "TIDINGS_GATEWAY_NODE": f"node-{index}",
            "TIDINGS_GATEWAY_PORT": str(port),
            "TIDINGS_GATEWAY_ADMIN_PORT": str(admin_port),
        }
        supervisor.start(f"gateway-{index}", [*tidings, "gateway"], {**environ, **own})
    own = {
        "TIDINGS_MESSAGING_PORT": str(ports.messaging_port),
        "TIDINGS_MESSAGING_ADMIN_PORT": str(ports.messaging_admin_port),
    }
    supervisor.start("messaging", [*tidings, "messaging"], {**environ, **own})
    supervisor.start("page", [*tidings, "page", "--port", str(ports.page_port)], environ)


def _broken(name: str, part: ladder.Broker | postgres_ladder.Server) -> str | None:
    return None if part.alive else f"{name} ended by itself; see {part.log_file}"


def _pairs(ports: Ports) -> list[tuple[int, int]]:
    return [(ports.port, ports.admin_port), (ports.second_port, ports.second_admin_port)]


def _state(ports: Ports, bootstrap_servers: str, dsn: str, secret: str) -> UpState:
    return UpState(
        gateways=[GatewayAddress(f"http://{HOST}:{port}", f"http://{HOST}:{admin}") for port, admin in _pairs(ports)],
        kafka=bootstrap_servers,
        page=f"http://{HOST}:{ports.page_port}",
        users=[
            User(
                name,
                name.capitalize(),
                make_token(name, secret, os.environ, ttl_s=_TOKEN_TTL_S, name=name.capitalize()),
            )
            for name in _USERS
        ],
        postgres=dsn,
        messaging=f"http://{HOST}:{ports.messaging_port}",
        messaging_admin=f"http://{HOST}:{ports.messaging_admin_port}",
    )


def _environment(environ: Mapping[str, str], servers: Mapping[str, str], secret: str, page: str) -> dict[str, str]:
    """The children's environment: ours, without what is for `up` alone, with what `up` decides."""
    inherited = {name: value for name, value in environ.items() if not name.startswith("TIDINGS_UP_")}
    decided = {"TIDINGS_LOG_FORMAT": "console", **inherited, **servers, "PYTHONUNBUFFERED": "1"}
    decided["TIDINGS_JWT_SECRET"] = secret
    for service in ("GATEWAY", "MESSAGING"):
        origins = [page, page.replace(HOST, "localhost"), inherited.get(f"TIDINGS_{service}_ORIGINS", "")]
        decided |= {
            f"TIDINGS_{service}_HOST": HOST,
            f"TIDINGS_{service}_ADMIN_HOST": HOST,
            f"TIDINGS_{service}_ORIGINS": ",".join(filter(None, origins)),
        }
    return decided


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=2)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
