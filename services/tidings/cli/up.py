"""`tidings up`: the whole system on this machine, for a first look and for development."""

import fcntl
import http.client
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click

from tidings.cli.doctor import port_free
from tidings.cli.state import GatewayAddress, UpState, User, demo_secret, make_token, write_state
from tidings.cli.supervise import Interrupted, Supervisor
from tidings.config import GatewaySettings, TopicSettings, load
from tidings.errors import ConfigError
from tidings.kafka import ladder, topics

__all__ = ["Ports", "busy_ports", "up"]

_HOST: Final = "127.0.0.1"
_PORT: Final = click.IntRange(1, 65535)
_USERS: Final = ("alice", "bob")
_TOKEN_TTL_S: Final = 30 * 86_400
_STOP_MARGIN_S: Final = 5


@dataclass(frozen=True)
class Ports:
    """What `up` listens on."""

    port: int
    admin_port: int
    second_port: int
    second_admin_port: int
    page_port: int
    kafka_port: int

    def named(self, *, kafka: bool) -> Iterator[tuple[int, str]]:
        """Each port with the flag that changes it."""
        for field, value in vars(self).items():
            if kafka or field != "kafka_port":
                yield value, f"--{field.replace('_', '-')}"


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
    "--kafka-port", default=9092, show_default=True, type=_PORT, metavar="PORT", help="Kafka, if it is started here."
)
@click.option(
    "--kafka",
    "kafka",
    type=click.Choice(["auto", *ladder.RUNGS]),
    default="auto",
    show_default=True,
    help="Where Kafka comes from; auto takes the first of the others that can be had.",
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
    kafka: str,
) -> None:
    """Run Kafka, two gateway nodes and a demo page on 127.0.0.1, until Ctrl-C.

    Kafka is the one that TIDINGS_KAFKA_BOOTSTRAP_SERVERS names, else one in Docker, else Apache's own from its jars
    (Java and Maven), else one embedded here. When all is ready, addresses and tokens are printed and written to
    .tidings/up.json, where the other commands find them. Each option can also be set as TIDINGS_UP_<NAME>.

    \b
    Examples:
      tidings up
      tidings up --port 8180 --admin-port 9200
    """
    ports = Ports(port, admin_port, second_port, second_admin_port, page_port, kafka_port)
    state_dir: Path = ctx.obj
    (gateway,) = load(GatewaySettings)
    topics_settings, secret = _prepare(state_dir, os.environ)
    kafka_here = kafka in {"docker", "apache"} or (kafka == "auto" and ladder.needs_port())
    with _locked(state_dir):
        if busy := busy_ports(ports, kafka=kafka_here):
            raise ConfigError(busy)
        supervisor = Supervisor(sys.stdout, ["gateway-1", "gateway-2", "page"], gateway.drain_s + _STOP_MARGIN_S)
        try:
            with supervisor.signals():
                _run(supervisor, state_dir, ports, None if kafka == "auto" else kafka, topics_settings, secret)
        except Interrupted:
            supervisor.say("stopped before all was ready")
        if supervisor.failure is not None:
            raise click.ClickException(supervisor.failure)


def busy_ports(ports: Ports, *, kafka: bool) -> list[str]:
    """One line for each port that can't be had, with the flag and the variable that change it."""
    lines = []
    seen: dict[int, str] = {}
    for number, flag in ports.named(kafka=kafka):
        variable = "TIDINGS_UP_" + flag.removeprefix("--").replace("-", "_").upper()
        if number in seen:
            lines.append(f"port {number} is wanted twice, by {seen[number]} and {flag} ({variable})")
        elif not port_free(number, _HOST):
            hint = ""
            if flag == "--kafka-port":
                hint = f", or use the Kafka there: TIDINGS_KAFKA_BOOTSTRAP_SERVERS={_HOST}:{number}"
            lines.append(f"port {number} is busy: choose another one with {flag} or {variable}{hint}")
        seen.setdefault(number, flag)
    return lines


def _prepare(state_dir: Path, environ: Mapping[str, str]) -> tuple[TopicSettings, str]:
    state_dir.mkdir(parents=True, exist_ok=True)
    for name in ("PUBLIC_KEY", "PUBLIC_KEY_FILE", "JWKS_URL"):
        if environ.get(f"TIDINGS_JWT_{name}"):
            raise ConfigError([f"TIDINGS_JWT_{name}: `tidings up` makes tokens itself, which needs a shared secret"])
    secret = environ.get("TIDINGS_JWT_SECRET", "").strip() or demo_secret(state_dir)
    make_token("check", secret, environ, ttl_s=1)
    (names,) = load(TopicSettings, environ=environ)
    return names, secret


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
    supervisor: Supervisor, state_dir: Path, ports: Ports, rung: str | None, names: TopicSettings, secret: str
) -> None:
    # Here messaging, presence and the MQTT bridge join: started like the gateways, after what they need.
    with ladder.start(
        state_dir,
        port=ports.kafka_port,
        allow_embedded=True,
        only=rung,  # type: ignore[arg-type]  # click.Choice has checked it
        log=supervisor.say,
    ) as kafka:
        supervisor.say(kafka.describe())
        if kafka.log_file is not None:
            supervisor.say(f"its log: {kafka.log_file}")
        if kafka.rung == "embedded":
            kafka.make_topics([spec.name for spec in topics.specs(names)])
        else:
            if made := topics.create(kafka.settings, names):
                supervisor.say(f"topics made: {', '.join(made)}")
            for line in topics.check(kafka.settings, names):
                supervisor.say(f"note: {line}")
        state = _state(ports, kafka.bootstrap_servers, secret)
        environ = _environment(os.environ, kafka.environment(), secret, state.page or "")
        try:
            tidings = [sys.executable, "-m", "tidings.cli", "--state-dir", str(state_dir)]
            for index, (node, pair) in enumerate(zip(state.gateways, _pairs(ports), strict=True), 1):
                assert node.url.endswith(str(pair[0]))
                own = {
                    "TIDINGS_GATEWAY_NODE": f"node-{index}",
                    "TIDINGS_GATEWAY_PORT": str(pair[0]),
                    "TIDINGS_GATEWAY_ADMIN_PORT": str(pair[1]),
                }
                supervisor.start(f"gateway-{index}", [*tidings, "gateway"], {**environ, **own})
            supervisor.start("page", [*tidings, "page", "--port", str(ports.page_port)], environ)

            def on_ready() -> None:
                write_state(state_dir, state)
                supervisor.say(_banner(state, state_dir))

            supervisor.run(
                lambda: all(_answers(f"{g.admin}/readyz") for g in state.gateways) and _answers(state.page or ""),
                on_ready,
                lambda: None if kafka.alive else f"Kafka ended by itself; see {kafka.log_file}",
            )
        finally:
            supervisor.stop()
            (state_dir / "up.json").unlink(missing_ok=True)
        supervisor.say("gateways stopped" if kafka.rung == "environment" else "gateways stopped; stopping Kafka")
    supervisor.say("all stopped")


def _pairs(ports: Ports) -> list[tuple[int, int]]:
    return [(ports.port, ports.admin_port), (ports.second_port, ports.second_admin_port)]


def _state(ports: Ports, bootstrap_servers: str, secret: str) -> UpState:
    return UpState(
        gateways=[GatewayAddress(f"http://{_HOST}:{port}", f"http://{_HOST}:{admin}") for port, admin in _pairs(ports)],
        kafka=bootstrap_servers,
        page=f"http://{_HOST}:{ports.page_port}",
        users=[
            User(
                name,
                name.capitalize(),
                make_token(name, secret, os.environ, ttl_s=_TOKEN_TTL_S, name=name.capitalize()),
            )
            for name in _USERS
        ],
    )


def _environment(environ: Mapping[str, str], kafka: Mapping[str, str], secret: str, page: str) -> dict[str, str]:
    """The children's environment: ours, without what is for `up` alone, with what `up` decides."""
    inherited = {name: value for name, value in environ.items() if not name.startswith("TIDINGS_UP_")}
    origins = [page, page.replace(_HOST, "localhost"), inherited.get("TIDINGS_GATEWAY_ORIGINS", "")]
    return {
        "TIDINGS_LOG_FORMAT": "console",
        **inherited,
        **kafka,
        "PYTHONUNBUFFERED": "1",
        "TIDINGS_JWT_SECRET": secret,
        "TIDINGS_GATEWAY_HOST": _HOST,
        "TIDINGS_GATEWAY_ADMIN_HOST": _HOST,
        "TIDINGS_GATEWAY_ORIGINS": ",".join(filter(None, origins)),
    }


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


def _own_name(program: Path) -> str:
    """How this command is called from here."""
    if program.name == "__main__.py":
        return f"{Path(sys.executable).name} -m tidings.cli"
    found = shutil.which(program.name)
    if found is not None and Path(found).samefile(program):
        return program.name
    return os.path.relpath(program) if program.is_relative_to(Path.cwd()) else str(program)


def _banner(state: UpState, state_dir: Path) -> str:
    record = '{"receivers":["alice","bob"],"type":"update","data":{"text":"Hello"}}'
    where = "" if state_dir == Path(".tidings") else f" --state-dir {state_dir}"
    tidings = _own_name(Path(sys.argv[0])) + where
    lines = ["", "Everything is ready.", "", f"  page       {state.page}"]
    lines += [f"  gateway    {g.url}/ws  (admin {g.admin}/metrics)" for g in state.gateways]
    lines += [f"  Kafka      {state.kafka}", ""]
    lines += [f"  token of {user.id:<6} {user.token}" for user in state.users]
    lines += ["", "Watch, then send, in other terminals:", f"  {tidings} tail alice"]
    lines += [f'  {tidings} produce --to alice --to bob --data \'{{"text":"Hello"}}\'']
    if shutil.which("kcat"):
        lines += [f"  echo '{record}' | kcat -P -b {state.kafka} -t modifications"]
    return "\n".join([*lines, "", "Ctrl-C stops all of it.", ""])
