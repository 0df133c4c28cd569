"""Every way into a secured Kafka that TIDINGS_KAFKA_SECURITY_* offer, on a broker; and what is told of a closed one."""

import asyncio
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, but not in its __all__
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.integration.clients import eventually
from tests.integration.processes import ROOT, Gateway, environment, topic_environment
from tests.integration.receiving import Receiver
from tests.integration.sites import Site, site
from tests.integration.test_handshake import self_signed
from tidings.config import KafkaSettings, load
from tidings.errors import BrokerUnavailable
from tidings.kafka import apache_jars
from tidings.kafka import topics as kafka_topics
from tidings.kafka.apache import ApacheKafka
from tidings.kafka.topic_specs import ROLES
from tidings.ports import free_ports
from tidings.producer import Modifications

pytestmark = pytest.mark.kafka

PASSWORD, WRONG = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
SCRAM = {"SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512, "SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256}
WAYS = (*SCRAM, "PLAIN", "certificate")
SHORT_S = 2.0
"""librdkafka tries again until its time is over, refused or not."""


@dataclass
class Secured:
    """A broker with a listener for each way in.

    Attributes:
        own: Topics on it, and gateways for it that know neither password nor certificate; `own.kafka` is the plain
            listener, by which nothing that is tested here goes.
        sasl, mutual: Ports of the listeners SASL_SSL and SSL, the latter for those who show a certificate.
        authority: PEM file of the certificate that all show, the clients of `mutual` too.
        key: PEM file of its private key.
    """

    own: Site
    sasl: int
    mutual: int
    authority: Path
    key: Path

    def environment(self, way: str, **changes: object) -> dict[str, str]:
        """The variables for a way in; `changes` to them by field (`ca_file=…`), None to leave one out."""
        settings: dict[str, object] = {"ca_file": self.authority}
        if way == "certificate":
            port = self.mutual
            settings |= {"protocol": "SSL", "cert_file": self.authority, "key_file": self.key}
        else:
            port = self.sasl
            settings |= {"protocol": "SASL_SSL", "sasl_mechanism": way}
            settings |= {"sasl_username": user_of(way), "sasl_password": PASSWORD}
        given = {name: value for name, value in (settings | changes).items() if value is not None}
        return {
            "TIDINGS_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
            **{f"TIDINGS_KAFKA_SECURITY_{name.upper()}": str(value) for name, value in given.items()},
        }

    def set_scram_password(self, mechanism: str, user: str, password: str) -> None:
        """Of a new user, or in place of another."""
        admin = AdminClient({"bootstrap.servers": self.own.cluster.bootstrap_servers, "log_level": 0})
        info = ScramCredentialInfo(SCRAM[mechanism], 4096)
        change = UserScramCredentialUpsertion(user, info, password.encode())
        admin.alter_user_scram_credentials([change])[user].result(20)


def user_of(mechanism: str) -> str:
    """Whom the broker knows by this mechanism and by no other: who takes the wrong one is not let in."""
    return f"user_of_{mechanism}"


def listeners(plain: int, controller: int, sasl: int, mutual: int, store: Path, authority: Path) -> dict[str, str]:
    """Lines of server.properties: two listeners with TLS beside the plain ones."""
    modules = "org.apache.kafka.common.security"
    jaas = {
        "plain": f'{modules}.plain.PlainLoginModule required user_{user_of("PLAIN")}="{PASSWORD}";',
        "scram-sha-256": f"{modules}.scram.ScramLoginModule required;",
        "scram-sha-512": f"{modules}.scram.ScramLoginModule required;",
    }
    clients = f"PLAINTEXT://127.0.0.1:{plain},SASL://127.0.0.1:{sasl},MUTUAL://127.0.0.1:{mutual}"
    return {
        "listeners": f"{clients},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": clients,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL",
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.sasl.sasl.enabled.mechanisms": ",".join(jaas).upper(),
        **{f"listener.name.sasl.{mechanism}.sasl.jaas.config": text for mechanism, text in jaas.items()},
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority),
    }


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The broker; each mechanism's user has `PASSWORD`."""
    os.environ.setdefault(apache_jars.CACHE_VARIABLE, str(ROOT / ".cache"))
    if missing := apache_jars.find_tools():
        pytest.skip(f"no broker of our own: {missing}")
    folder = tmp_path_factory.mktemp("secured")
    authority, key = self_signed(folder)
    store = folder / "store.pem"
    store.write_bytes(key.read_bytes() + authority.read_bytes())
    plain, controller, sasl, mutual = free_ports(4)
    settings = listeners(plain, controller, sasl, mutual, store, authority)
    with ApacheKafka(folder / "kafka", ports=[plain], settings=settings) as cluster, site(cluster, folder) as own:
        own.gateway.environ["TIDINGS_LOG_LEVEL"] = "debug"  # what is told at any level must not hold a password
        made = Secured(own, sasl, mutual, authority, key)
        for mechanism in SCRAM:
            made.set_scram_password(mechanism, user_of(mechanism), PASSWORD)
        yield made


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Each way in, one after the other."""
    return str(request.param)


@pytest.fixture(scope="module")
def node(secured: Secured, way: str) -> Gateway:
    """A gateway that was let in that way."""
    return secured.own.gateway(environ=secured.environment(way))


async def send(secured: Secured, environ: Mapping[str, str], data: str) -> None:
    """One modification for alice, by a producer with this environment."""
    names = topic_environment(secured.own.topics)
    async with Modifications.from_environment(environ={**environ, **names}) as modifications:
        await modifications.send(["alice"], "update", data)


def silent_about_passwords(text: str) -> bool:
    return not any(password in text for password in (PASSWORD, WRONG))


# Let in


async def test_a_record_passes_from_producer_to_client(secured: Secured, way: str, node: Gateway) -> None:
    async with Receiver(node, "alice") as alice:
        await send(secured, secured.environment(way), way)
        await alice.until(1)
        assert [one.data for one in alice.received] == [way]
    assert silent_about_passwords(node.log)


async def test_a_gateway_learns_the_topic_s_id(secured: Secured, node: Gateway) -> None:
    """Which another client library asks for, with the same settings."""
    name = secured.own.modifications
    topic_id = kafka_topics.topic_ids(secured.own.kafka, [name])[name]
    assert topic_id
    async with Receiver(node, "alice") as alice:
        assert alice.control[0]["data"]["log"] == topic_id.translate(str.maketrans("+/", "-_"))


def test_the_commands_make_and_check_topics(secured: Secured, tmp_path: Path) -> None:
    names = {f"TIDINGS_{role.upper()}_TOPIC": f"{role}-by-command" for role in ROLES}
    environ = environment(**secured.environment("SCRAM-SHA-512"), **names)

    def run(command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tidings.cli", "topics", command],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert silent_about_passwords(done.stdout + done.stderr)
        return done.stdout

    assert run("create").count(": made") == len(names)
    assert "are as they should be" in run("check")


# Refused


async def refused(secured: Secured, environ: Mapping[str, str], reason: str, admin_reason: str) -> Gateway:
    """A gateway with this environment, seen to wait, to try again, and to say why; producer and commands say it too."""
    node = secured.own.gateway(wait=False, environ=environ)
    said = []
    with pytest.raises(BrokerUnavailable, match=re.escape(reason)) as error:
        await send(secured, environ, "to nobody")
    said.append(str(error.value))
    (kafka,) = load(KafkaSettings, environ=environ)
    for _ in range(3):  # on a busy machine the refusal may come after a short time
        with pytest.raises(BrokerUnavailable) as error:
            await asyncio.to_thread(kafka_topics.check, kafka, secured.own.topics, timeout_s=SHORT_S)
        said.append(str(error.value))
        if admin_reason in said[-1]:
            break
    assert admin_reason in said[-1]

    def tries() -> list[str]:
        return [line for line in node.log.splitlines() if "can't read yet, next try in" in line]

    await eventually(lambda: len(tries()) > 1, 20, "it did not try again")
    assert all(reason in line for line in tries()), node.log
    status, body = node.get("/readyz")
    assert status == 503
    said.append(json.loads(body)["reason"])
    assert said[-1].startswith("waiting for Kafka: ")
    assert reason in said[-1]
    assert node.process.poll() is None
    assert silent_about_passwords(" ".join([node.log, *said]))
    return node


async def test_a_wrong_password_is_said_and_waited_out_until_it_is_the_right_one(secured: Secured) -> None:
    secured.set_scram_password("SCRAM-SHA-512", "late", PASSWORD)
    environ = secured.environment("SCRAM-SHA-512", sasl_username="late", sasl_password=WRONG)
    reason = "invalid credentials with SASL mechanism SCRAM-SHA-512"
    node = await refused(secured, environ, reason, reason)
    secured.set_scram_password("SCRAM-SHA-512", "late", WRONG)
    await eventually(node.ready, 20, "it did not try again")
    async with Receiver(node, "alice") as alice:
        await send(secured, environ, "late")
        await alice.until(1)
    assert silent_about_passwords(node.log)


async def test_a_wrong_plain_password_is_said_and_never_shown(secured: Secured) -> None:
    """With this mechanism the password itself is what is sent."""
    reason = "Invalid username or password"
    await refused(secured, secured.environment("PLAIN", sasl_password=WRONG), reason, reason)


async def test_an_authority_that_is_not_trusted_is_refused(secured: Secured, tmp_path: Path) -> None:
    other, _ = self_signed(tmp_path)
    environ = secured.environment("PLAIN", ca_file=other)
    await refused(secured, environ, "certificate verify failed", "certificate verify failed")


async def test_a_certificate_for_another_name_is_refused(secured: Secured) -> None:
    """Trusted as it is: else any server with a certificate could ask for passwords."""
    also_loopback = {"TIDINGS_KAFKA_BOOTSTRAP_SERVERS": f"127.1:{secured.sasl}"}
    environ = secured.environment("PLAIN") | also_loopback
    await refused(secured, environ, "certificate is not valid for '127.1'", "certificate verify failed")


async def test_who_shows_no_certificate_is_not_let_in_where_one_is_asked_for(secured: Secured) -> None:
    environ = secured.environment("certificate", cert_file=None, key_file=None)
    address = f"127.0.0.1:{secured.mutual}"
    await refused(secured, environ, address, address)
