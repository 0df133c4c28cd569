"""The published jars of Apache Kafka: whether they can be had here, fetching them with Maven, where they are kept."""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tidings.errors import BrokerUnavailable

__all__ = ["CACHE_VARIABLE", "RESOURCES", "VERSION", "fetch_jars", "find_tools"]

CACHE_VARIABLE: Final = "TIDINGS_UP_CACHE_DIR"
"""Where the jars are kept; `.cache` of the working directory if not set."""

RESOURCES: Final = Path(__file__).with_name("jars")
"""The folder of what we ship for the jars: `pom.xml`, and `log4j2.properties` for the class path."""

_POM: Final = RESOURCES / "pom.xml"

VERSION: Final = (re.findall(r"<kafka\.version>(.+?)</kafka\.version>", _POM.read_text(encoding="utf-8")) or ["?"])[0]
"""The version that the shipped `pom.xml` asks for."""


def find_tools() -> str | None:
    """What is missing to use the jars (Java 17 or newer; Maven unless the jars are already here), or None."""
    if shutil.which("java") is None:
        return "no java on the PATH"
    if shutil.which("mvn") is None and not _cached(_cache_dir()):
        return "no mvn on the PATH, and the jars are not in the cache yet"
    return None


def fetch_jars(log: Callable[[str], None] = lambda line: None) -> Path:
    """The folder with Kafka's jars; the first call copies them there with Maven (about 45 MB).

    Raises:
        BrokerUnavailable: Maven is missing, took over 15 minutes, or failed; the message has its first error.
    Cost: a stat when the jars are there, else up to a few minutes. Safe to call from several processes at once.
    """
    folder = _cache_dir()
    if _cached(folder):
        return folder
    if shutil.which("mvn") is None:
        raise BrokerUnavailable("no mvn on the PATH to get Kafka's jars with")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:  # two test runs at once: the second waits and finds the jars
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _cached(folder):
            return folder
        log(f"getting Apache Kafka {VERSION} with Maven into {folder} (once)")
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        command = ["mvn", "-q", "-B", "-Dstyle.color=never", "-f", str(_POM), "dependency:copy-dependencies"]
        try:
            done = subprocess.run(  # noqa: S603
                [*command, f"-DoutputDirectory={partial}"], capture_output=True, text=True, timeout=900, check=False
            )
            if done.returncode != 0:
                errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
                raise BrokerUnavailable(f"mvn could not get Kafka's jars: {(errors or ['no reason given'])[0]}")
            shutil.rmtree(folder, ignore_errors=True)  # an older, broken copy
            partial.rename(folder)
        except subprocess.TimeoutExpired as error:
            raise BrokerUnavailable("mvn did not get Kafka's jars within 15 minutes") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _cache_dir() -> Path:
    return Path(os.environ.get(CACHE_VARIABLE) or ".cache").resolve() / f"kafka-{VERSION}"


def _cached(folder: Path) -> bool:
    return (folder / f"kafka_2.13-{VERSION}.jar").exists()
