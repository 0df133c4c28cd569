"""The Autobahn list, groups 1 to 7, against the real socket; `.cache/autobahn.json` tells what became of each case."""

import asyncio
import json
from collections import Counter
from typing import NamedTuple

import pytest

from tests.integration.autobahn_cases import CASES, MESSAGE, Case, Pong, Send, Wait
from tests.integration.clients import CLOSE, END, PING, PONG, TEXT, Frame, TcpClient, client_frame, close_frame
from tests.integration.processes import ROOT, Gateway, GatewayFactory

pytestmark = pytest.mark.kafka

RESULT_FILE = ROOT / ".cache" / "autobahn.json"
PAUSE_S = 0.25
"""The list waits for a second."""
AT_ONCE = 16
FRAME_S = 3.0
ENOUGH = 20
"""Failures after which the other cases are not tried: each may take seconds."""
PROTOCOLS = ("tidings.plain", "tidings.v1")


class Result(NamedTuple):
    behaviour: str
    close_code: int
    detail: str


class Run:
    """One case on one connection."""

    def __init__(self, case: Case, tcp: TcpClient, answers: bool) -> None:
        self.case = case
        self.tcp = tcp
        self.answers = answers
        self.got: list[object] = []
        self.code = 0
        self.survived: list[str] = []

    async def run(self) -> Result:
        for step in self.case.steps:
            if isinstance(step, Send):
                await self.tcp.send(step.data, step.chop)
            elif not await self._wait(step):
                break
        if not self.code and not self.case.by_gateway and not self.case.client_closes:
            await self._still_alive()
            await self.tcp.send(close_frame(1000))
        while not self.code:
            await self._take(await self.tcp.frame(FRAME_S))
        after = await self.tcp.ended()
        return self._judge(after)

    async def _wait(self, wait: Wait) -> bool:
        """Whether the connection stands at the end of the pause."""
        try:
            async with asyncio.timeout(PAUSE_S):
                while not self.code:
                    await self._take(await self.tcp.frame(60))
        except TimeoutError:
            self.survived.append(wait.name)
            return True
        return False

    async def _take(self, frame: Frame) -> None:
        match frame.opcode:
            case -1 | 8:
                self.code = frame.code
                if frame.opcode == CLOSE and self.case.by_gateway:
                    await self.tcp.send(client_frame(CLOSE, frame.payload))
            case 9:
                await self.tcp.send(client_frame(PONG, frame.payload))
            case 10:
                self.got.append(Pong(frame.payload))
            case _:
                assert frame.opcode == TEXT
                assert json.loads(frame.payload)["type"] == "$error", frame
                self.got.append(MESSAGE)

    async def _still_alive(self) -> None:
        """Everything expected came, and then the answer to a last ping and nothing before it."""
        last = Pong(b"the last ping")
        await self.tcp.send(client_frame(PING, last.payload))
        while not self.code and last not in self.got:
            await self._take(await self.tcp.frame(FRAME_S))
        if not self.code:
            self.got.remove(last)

    def _expected(self, events: tuple[object, ...]) -> list[object]:
        return [event for event in events if self.answers or event is not MESSAGE]

    def _judge(self, after: bytes) -> Result:
        case = self.case
        behaviour, detail = "FAILED", f"got {self.got} and {self.code}, survived {self.survived}"
        if after:
            return Result(behaviour, self.code, f"{after!r} came after the close frame")
        if self.got == self._expected(case.ok):
            behaviour = "OK"
        elif case.non_strict is not None and self.got == self._expected(case.non_strict):
            behaviour = "NON-STRICT"
        if self.code not in case.codes:
            dropped = self.code == END.code and case.by_gateway
            behaviour = "NON-STRICT" if dropped and behaviour != "FAILED" else "FAILED"
        if case.by_gateway and tuple(self.survived) != case.waits:
            tolerated = tuple(self.survived) == case.waits_tolerated
            behaviour = "NON-STRICT" if tolerated and behaviour != "FAILED" else "FAILED"
        if case.informational:
            behaviour, detail = "INFORMATIONAL", f"{behaviour}: {detail}"
        return Result(behaviour, self.code, "" if behaviour in ("OK", "NON-STRICT") else detail)


async def run_case(gateway: Gateway, case: Case, protocol: str) -> Result:
    answers = protocol == "tidings.v1"
    async with await TcpClient.open(gateway) as tcp:
        await tcp.upgrade(f"case-{case.number}", Sec_WebSocket_Protocol=protocol)
        if answers:
            welcome = await tcp.frame()
            assert json.loads(welcome.payload)["type"] == "$welcome"
        try:
            return await Run(case, tcp, answers).run()
        except TimeoutError:
            return Result("FAILED", 0, "nothing came in time")


@pytest.fixture(scope="module")
def gateway_for_cases(nodes: GatewayFactory) -> Gateway:
    # 7.1.6 sends a text of 256 KiB.
    return nodes(max_client_message_bytes=1 << 20)


def test_the_list_is_whole() -> None:
    groups = Counter(case.number.split(".")[0] for case in CASES)
    assert groups == {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37}
    assert len({case.number for case in CASES}) == len(CASES) == 246


async def test_every_case_behaves_as_the_list_allows(
    gateway_for_cases: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    results: dict[str, dict[str, Result]] = {case.number: {} for case in CASES}
    turnstile = asyncio.Semaphore(AT_ONCE)
    failed = 0

    async def one(case: Case, protocol: str) -> None:
        nonlocal failed
        async with turnstile:
            result = Result("FAILED", 0, "not tried: too many others failed")
            if failed < ENOUGH:
                result = await run_case(gateway_for_cases, case, protocol)
            failed += result.behaviour == "FAILED"
            results[case.number][protocol] = result

    async with asyncio.TaskGroup() as tasks:
        for protocol in PROTOCOLS:
            for case in CASES:
                tasks.create_task(one(case, protocol))

    RESULT_FILE.parent.mkdir(exist_ok=True)
    content = {
        number: {protocol: outcome._asdict() for protocol, outcome in outcomes.items()}
        for number, outcomes in results.items()
    }
    RESULT_FILE.write_text(json.dumps(content, indent=1), encoding="utf-8")

    flat = [(number, protocol, result) for number, one in results.items() for protocol, result in one.items()]
    assert len(flat) == len(CASES) * len(PROTOCOLS)
    counts = Counter((protocol, result.behaviour) for _, protocol, result in flat)
    not_ok = [(number, protocol, *result) for number, protocol, result in flat if result.behaviour != "OK"]
    with capsys.disabled():
        print()
        for (protocol, behaviour), count in sorted(counts.items()):
            print(f"Autobahn 1-7, {protocol}: {count} {behaviour}")
        for number, protocol, behaviour, code, _ in sorted(not_ok):
            print(f"  {number} {protocol}: {behaviour} {code}")
    assert not [line for line in not_ok if line[2] == "FAILED"]
    # What one connection does never shows in the node's health.
    assert gateway_for_cases.ready()
    assert '"level":"error"' not in gateway_for_cases.log


async def test_a_frame_without_a_mask_ends_the_connection(gateway_for_cases: Gateway) -> None:
    """Not in the list, for its client always masks; RFC 6455, section 5.1."""
    for opcode in (TEXT, PING):
        async with await TcpClient.open(gateway_for_cases) as tcp:
            await tcp.upgrade("unmasked")
            await tcp.send(client_frame(opcode, b"hi", mask=None))
            assert await tcp.closed() == 1002
            assert await tcp.ended() == b""


async def test_a_length_beyond_all_memory_is_refused_by_its_head(gateway_for_cases: Gateway) -> None:
    async with await TcpClient.open(gateway_for_cases) as tcp:
        await tcp.upgrade("boaster")
        await tcp.send(client_frame(TEXT, b"x", length=1 << 62))
        assert await tcp.closed() == 1009
