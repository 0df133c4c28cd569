"""Facts of files. Their bytes are another service's."""

from typing import Any
from uuid import UUID

from tidings.messaging.domain.model import File
from tidings.messaging.store.database import Connection

__all__ = ["find_file", "put_file"]

_COLUMNS = "id, owner_id, file_name, mime_type, file_size, file_url, created_at"

_PUT = f"""
INSERT INTO files (id, owner_id, file_name, mime_type, file_size, file_url) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET file_name = excluded.file_name, mime_type = excluded.mime_type,
  file_size = excluded.file_size, file_url = excluded.file_url
WHERE files.owner_id = excluded.owner_id
RETURNING {_COLUMNS}
"""  # noqa: S608

_FIND = f"SELECT {_COLUMNS} FROM files WHERE id = $1"  # noqa: S608


async def put_file(
    connection: Connection, file_id: UUID, owner: str, file_name: str, mime_type: str, file_size: int, file_url: str
) -> File | None:
    """Note the facts, or replace them.

    Returns:
        None if the file is another's; nothing is changed then.
    """
    row = await connection.fetchrow(_PUT, file_id, owner, file_name, mime_type, file_size, file_url)
    return None if row is None else _file_of(row)


async def find_file(connection: Connection, file_id: UUID) -> File | None:
    """The file, whoever owns it; None: nobody made it known."""
    row = await connection.fetchrow(_FIND, file_id)
    return None if row is None else _file_of(row)


def _file_of(row: Any) -> File:
    return File(**dict(row))
