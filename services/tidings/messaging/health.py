"""What this process needs and whether it answers: looked at in the background, told to /readyz and the metrics."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tidings.errors import DependencyError
from tidings.messaging.migrating import HEAD, missing

__all__ = ["Health"]

log = structlog.get_logger(__name__)

_EVERY_S: Final = 2.0


class Health:
    """Postgres has to answer now. Kafka has to have answered once: without it messages are still taken and kept, and
    an outage of Kafka must not take every process of the service away.

    Args:
        version: Asks Postgres for the database's version; raises `DependencyError`.
        kafka: Asks the brokers for anything; raises `DependencyError`.
    """

    def __init__(self, version: Callable[[], Awaitable[str | None]], kafka: Callable[[], Awaitable[object]]) -> None:
        self._version = version
        self._kafka = kafka
        self.postgres_up = False
        self.kafka_up = False
        self._kafka_was_up = False
        self.postgres_fault: str | None = "Postgres: not asked yet"
        """Why it can't be used now: away, or not migrated."""

    def fault(self) -> str | None:
        """Why requests can't be served now, in words; None if they can."""
        if self.postgres_fault is None and not self._kafka_was_up:
            return "Kafka: has not answered since the start"
        return self.postgres_fault

    async def run(self) -> None:
        """Look every two seconds, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(self.look_at_postgres), name="health-postgres")
            tasks.create_task(self._repeat(self.look_at_kafka), name="health-kafka")

    async def look_at_postgres(self) -> None:
        """Ask Postgres once."""
        try:
            version = await self._version()
        except DependencyError as error:
            self._told_postgres(False, f"Postgres: {error}")
            return
        lacks = missing(version)
        fault = f"Postgres: the database lacks version {' '.join(lacks)}; run `tidings migrate`" if lacks else None
        self._told_postgres(True, fault)
        if version is not None and version > HEAD:
            log.debug("database_newer", version=version, known=HEAD)

    async def look_at_kafka(self) -> None:
        """Ask Kafka once."""
        try:
            await self._kafka()
        except DependencyError as error:
            if self.kafka_up or not self._kafka_was_up:
                log.warning("kafka_away", reason=str(error))
            self.kafka_up = False
            return
        if not self.kafka_up:
            log.info("kafka_answers")
        self.kafka_up = self._kafka_was_up = True

    def _told_postgres(self, up: bool, fault: str | None) -> None:
        if fault != self.postgres_fault:
            if fault is None:
                log.info("postgres_ready")
            else:
                log.warning("postgres_not_ready", reason=fault)
        self.postgres_up, self.postgres_fault = up, fault

    async def _repeat(self, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            await look()
            await asyncio.sleep(_EVERY_S)
