"""A relay as a process of its own, which dies or freezes at a step of its own choice.

python -m tests.integration.messaging.relay_process [kill|stop before|after open|send|commit|forget]
"""

import asyncio
import os
import signal
import sys
from typing import Any

from tidings.config import KafkaSettings, TopicSettings, load
from tidings.messaging.relay.producing import TransactionalProducer
from tidings.messaging.relay.relay import Relay
from tidings.messaging.relay.rows import OutboxRows
from tidings.metrics import Metrics

STEPS: dict[str, tuple[Any, str]] = {
    "open": (TransactionalProducer, "open"),
    "send": (TransactionalProducer, "send"),
    "commit": (TransactionalProducer, "commit"),
    "forget": (OutboxRows, "advance"),
}


def fail_at(fate: str, when: str, step: str) -> None:
    """Kill or stop this process around the first call of that step; of `forget`, the first with something to forget."""
    owner, name = STEPS[step]
    original = getattr(owner, name)
    done: list[str] = []

    def fail(moment: str) -> None:
        if moment == when and not done:
            done.append(fate)
            os.kill(os.getpid(), signal.SIGKILL if fate == "kill" else signal.SIGSTOP)

    async def replaced(self: Any, *arguments: Any, **limits: Any) -> Any:
        if step == "forget" and not arguments[0]:
            return await original(self, *arguments, **limits)
        fail("before")
        answer = await original(self, *arguments, **limits)
        fail("after")
        return answer

    setattr(owner, name, replaced)


async def main() -> None:
    """Relay until SIGTERM; then hand over."""
    kafka, topics = load(KafkaSettings, TopicSettings)
    relay = Relay(os.environ["TIDINGS_POSTGRES_DSN"], kafka, topics.modifications, Metrics())
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await relay.start()
    await stopped.wait()
    await relay.stop(5)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        fail_at(*sys.argv[1:])
    asyncio.run(main())
