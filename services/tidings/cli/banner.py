"""What `tidings up` says when everything is ready."""

import os
import shutil
import sys
from pathlib import Path

from tidings.cli.state import UpState
from tidings.postgres.databases import place_of

__all__ = ["banner"]


def _own_name(program: Path) -> str:
    """How this command is called from here."""
    if program.name == "__main__.py":
        return f"{Path(sys.executable).name} -m tidings.cli"
    found = shutil.which(program.name)
    if found is not None and Path(found).samefile(program):
        return program.name
    return os.path.relpath(program) if program.is_relative_to(Path.cwd()) else str(program)


def banner(state: UpState, state_dir: Path, topic: str) -> str:
    """Addresses, tokens, and what to try first.

    Args:
        topic: Name of the one that records are sent to.
    """
    record = '{"receivers":["alice","bob"],"type":"update","data":{"text":"Hello"}}'
    where = "" if state_dir == Path(".tidings") else f" --state-dir {state_dir}"
    tidings = _own_name(Path(sys.argv[0])) + where
    lines = ["", "Everything is ready.", "", f"  page       {state.page}"]
    lines += [f"  gateway    {g.url}/ws  (admin {g.admin}/metrics)" for g in state.gateways]
    lines += [f"  messaging  {state.messaging}/v1.0  (documented at {state.messaging}/schema)"]
    lines += [f"  Kafka      {state.kafka}", f"  Postgres   {place_of(state.postgres or '')}", ""]
    lines += [f"  token of {user.id:<6} {user.token}" for user in state.users]
    lines += ["", "Watch, then send, in other terminals:", f"  {tidings} tail alice"]
    lines += [f'  {tidings} produce --to alice --to bob --data \'{{"text":"Hello"}}\'']
    lines += ["Or have the messaging service say it, in a chat of alice and bob:"]
    lines += [
        f'  curl -X POST {state.messaging}/v1.0/chat/personal -H "Authorization: Bearer $({tidings} token alice)"'
        " -H 'Idempotency-Key: 1' -H 'Content-Type: application/json' -d '{\"member_id\":\"bob\"}'"
    ]
    if shutil.which("kcat"):
        lines += [f"  echo '{record}' | kcat -P -b {state.kafka} -t {topic}"]
    return "\n".join([*lines, "", "Ctrl-C stops all of it.", ""])
