"""One connection to an HTTP server, in bytes."""

import asyncio
import json

from tests.integration.messaging.shell import token

__all__ = ["Wire", "connect", "head"]


class Wire:
    """One connection, in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split()[1]), headers, body

    async def problem(self) -> tuple[int, str]:
        status, headers, body = await self.answer()
        assert headers["content-type"] == "application/json"
        return status, json.loads(body)["error_type"]

    async def closed(self) -> bool:
        async with asyncio.timeout(5):
            return await self.reader.read() == b""


async def connect(port: int) -> Wire:
    return Wire(*await asyncio.open_connection("127.0.0.1", port))


def head(method: str, path: str, *lines: str) -> bytes:
    own = ("Host: messaging.test", f"Authorization: Bearer {token()}")
    return "\r\n".join([f"{method} {path} HTTP/1.1", *own, *lines, "", ""]).encode("latin-1")
