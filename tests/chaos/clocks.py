"""Processes whose wall clock a test can move: a small library, compiled here and preloaded there."""

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

import pytest

__all__ = ["WallClock", "compile_shim"]

_SOURCE: Final = Path(__file__).with_name("clock_shim.c")


def compile_shim(folder: Path) -> Path:
    """The library; skips the test where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("rung: no C compiler here, so no process with a clock of its own")
    library = folder / "clock_shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)
    return library


class WallClock:
    """The offset of the processes that are started with its environment."""

    def __init__(self, shim: Path, file: Path) -> None:
        self._file = file
        self.environ = {"LD_PRELOAD": str(shim), "CLOCK_SHIM_FILE": str(file)}
        self.jump_to(0)

    def jump_to(self, seconds: float) -> None:
        """Their clock is that far ahead of the true one from now on; negative: behind."""
        with open(self._file, "r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", int(seconds * 1e9)))
