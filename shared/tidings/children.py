"""Child processes that do not outlive us."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, Literal

__all__ = ["spawn", "tied"]

DeathSignal = Literal["KILL", "TERM", "INT"]

# PR_SET_PDEATHSIG fires when the *thread* that started the child ends, not the process. So one thread, which lives as
# long as the interpreter, starts all of them; else a child started from a worker thread would die with that thread.
_SPAWNER: Final = ThreadPoolExecutor(1, thread_name_prefix="spawner")


def spawn(
    command: Sequence[str],
    *,
    out: IO[bytes] | int,
    signal: DeathSignal = "KILL",
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, stdout and stderr to `out`.

    Args:
        cwd: Where it starts; here if None.
        user: Who it runs as, with that user's group and no other; us if None. Only root may name another.

    Its own session, because Ctrl-C in the terminal is for us, who decide what stops in which order. If this process
    is killed the child gets `signal`, where the system can promise that (see `tied`).
    """
    as_user: dict[str, Any] = {}
    if user is not None:
        as_user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
    return _SPAWNER.submit(
        subprocess.Popen,
        [*tied(signal), *command],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        env=dict(os.environ if environ is None else environ),
        start_new_session=True,
        cwd=cwd,
        **as_user,
    ).result()


@cache
def tied(signal: DeathSignal) -> tuple[str, ...]:
    """A command prefix: the kernel sends `signal` once the starting thread is gone. Empty where there is no setpriv."""
    prefix = ("setpriv", "--pdeathsig", signal)
    if shutil.which(prefix[0]) is None:
        return ()
    done = subprocess.run([*prefix, "true"], capture_output=True, check=False)  # noqa: S603
    return prefix if done.returncode == 0 else ()
