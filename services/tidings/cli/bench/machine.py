"""On what a bench ran: numbers without it mean nothing."""

import datetime
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["describe"]

_PACKAGES = ("tidings", "aiokafka", "websockets", "uvloop", "msgspec", "confluent-kafka", "cramjam")


def describe() -> dict[str, str]:
    """Date (UTC), processor, cores, memory, kernel, Python, packages and the load average so far, in words."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": _gib(_field("/proc/meminfo", "MemTotal")),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "load": f"{os.getloadavg()[0]:.1f}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(source)"


def _field(path: str, name: str) -> str:
    try:
        with Path(path).open() as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return ""


def _gib(kilobytes: str) -> str:
    number = kilobytes.split(" ")[0]
    return f"{int(number) / 1024 / 1024:.0f} GiB" if number.isdigit() else "unknown"
