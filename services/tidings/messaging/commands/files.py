"""Facts of files, told by whoever uploaded them: the bytes are another service's."""

from uuid import UUID

from tidings.errors import Forbidden
from tidings.messaging.commands import Answer, Record
from tidings.messaging.domain import rules
from tidings.messaging.domain.model import Actor
from tidings.messaging.store import files as store
from tidings.messaging.store.database import Database
from tidings.messaging.store.unit import Unit
from tidings.messaging.wire import Wire, time_of

__all__ = ["Files"]


class Files:
    """The use cases of files."""

    def __init__(self, database: Database, wire: Wire) -> None:
        self._database = database
        self._wire = wire

    async def put(
        self,
        actor: Actor,
        file_id: UUID,
        *,
        file_name: str,
        mime_type: str,
        file_size: int,
        file_url: str,
        record: Record | None = None,
    ) -> Answer:
        """Note the facts of the actor's file, or replace them; messages that show it already keep those they had.

        Args:
            file_size: Bytes.
        Raises:
            InvalidInput: `file_too_big`, or `validation_failed`.
            Forbidden: `not_file_owner`: the id is another's file.
        """
        rules.checked_file(file_name, mime_type, file_size, file_url)

        async def work(unit: Unit) -> Answer:
            file = await store.put_file(unit.connection, file_id, actor.id, file_name, mime_type, file_size, file_url)
            if file is None:
                raise Forbidden("not_file_owner")
            answer: Answer = {
                "file_id": str(file.id),
                "file_name": file.file_name,
                "mime_type": file.mime_type,
                "file_size": file.file_size,
                "file_url": file.file_url,
                "created_at": time_of(file.created_at, self._wire),
            }
            if record is not None:
                await record(unit, answer)
            return answer

        return await self._database.run(work)
