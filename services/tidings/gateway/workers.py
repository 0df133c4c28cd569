"""Several processes behind one port, one core each; the kernel spreads new connections over them."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Final

import structlog

from tidings.config import GatewaySettings

__all__ = ["of_worker", "run_workers"]

log = structlog.get_logger(__name__)

_FAILED: Final = 1


def of_worker(settings: GatewaySettings, index: int) -> GatewaySettings:
    """One worker's settings: its share of the connections, a name and an admin port of its own.

    The admin ports count up from the one that is set. The limits per user and per address hold for each worker alone.
    """
    connections = settings.max_connections
    if connections:
        share, more = divmod(connections, settings.workers)
        connections = max(1, share + (1 if index < more else 0))
    return settings.model_copy(
        update={
            "node": f"{settings.node}-{index}",
            "admin_port": settings.admin_port + index if settings.admin_port else 0,
            "max_connections": connections,
        }
    )


def run_workers(
    settings: GatewaySettings, work: Callable[[GatewaySettings], int], on_forked: Callable[[], object]
) -> int:
    """Fork the workers and wait for all; returns the exit code of the whole.

    A signal to stop is passed on. If a worker ends by itself the others are told to drain and the whole fails: whoever
    supervises this process starts it anew. Call it before any event loop or thread exists; `on_forked` is called when
    the parent may have them.
    """
    workers: dict[int, int] = {}
    stopping = False

    def pass_on(number: int, _: object) -> None:
        nonlocal stopping
        stopping = True
        for pid in workers:
            os.kill(pid, number)

    for index in range(settings.workers):
        pid = os.fork()
        if pid == 0:
            code = _FAILED
            try:
                code = work(of_worker(settings, index))
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        workers[pid] = index
    on_forked()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    result = 0
    while workers:
        pid, status = os.wait()
        index = workers.pop(pid, -1)
        code = os.waitstatus_to_exitcode(status)
        if code or not stopping:
            result = result or (code if code > 0 else _FAILED)
        if not stopping:
            log.error("worker_ended", worker=index, exit_code=code)
            pass_on(signal.SIGTERM, None)
    return result
