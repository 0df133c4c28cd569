"""A headless Chromium, driven over its debugging protocol: just enough to open a page and look into it."""

import asyncio
import base64
import json
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect

__all__ = ["Browser", "find_chromium"]


def find_chromium() -> str | None:
    """The program, or None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


class Browser:
    """One page of one browser process. Used as an async context manager."""

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        self._size = (width, height)
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._next = 0

    async def __aenter__(self) -> Self:
        program = find_chromium()
        assert program is not None
        self._process = await asyncio.create_subprocess_exec(
            program,
            "--headless=new",
            "--no-sandbox",  # tests may run as root, in a container
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--window-size={self._size[0]},{self._size[1]}",
            f"--user-data-dir={self._profile.name}",
            "--remote-debugging-port=0",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        port_file = Path(self._profile.name) / "DevToolsActivePort"
        async with asyncio.timeout(30):
            while not port_file.exists() or "\n" not in port_file.read_text():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.05)
        port, path = port_file.read_text().splitlines()[:2]
        self._socket: ClientConnection = await connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None)
        target = (await self._call("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._socket.close()
        self._process.kill()
        await self._process.wait()
        self._profile.cleanup()

    async def open(self, url: str) -> None:
        """Go there; does not wait for the page's own work (see `until`)."""
        await self._call("Page.navigate", session=True, url=url)

    async def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited.

        Raises:
            AssertionError: The script threw.
        """
        answer = await self._call(
            "Runtime.evaluate", session=True, expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, script: str, timeout_s: float = 20) -> Any:
        """Wait until the expression is true in the page; its value."""
        async with asyncio.timeout(timeout_s):
            while not (value := await self.run(script)):  # noqa: ASYNC110 - the page tells nobody
                await asyncio.sleep(0.05)
        return value

    async def screenshot(self) -> bytes:
        """What is seen, as PNG."""
        answer = await self._call("Page.captureScreenshot", session=True)
        return base64.b64decode(answer["data"])

    async def _call(self, method: str, *, session: bool = False, **parameters: object) -> Any:
        self._next += 1
        call: dict[str, object] = {"id": self._next, "method": method, "params": parameters}
        if session:
            call["sessionId"] = self._session
        await self._socket.send(json.dumps(call))
        while True:
            answer = json.loads(await self._socket.recv())
            if answer.get("id") == self._next:
                assert "error" not in answer, answer["error"]
                return answer["result"]
