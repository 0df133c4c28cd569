"""The generator of `schemas/`: what other languages validate against, built from the structs.

python -m tidings.cli.schemas writes the files, with --check it only tells which have drifted.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
import msgspec

from tidings.config import TopicSettings, load
from tidings.contract.asyncapi import asyncapi
from tidings.contract.events import MODIFICATIONS
from tidings.contract.schemas import Document, modification_schema, record_schema
from tidings.kafka.topic_specs import specs

__all__ = ["check", "documents", "main", "write"]

DIRECTORY: Final = Path("schemas")


def documents() -> Mapping[str, Document]:
    """Every generated document by its path below the directory. Nothing of this machine or its environment is in it."""
    (topics,) = load(TopicSettings, environ={})
    roles: dict[str, tuple[str, int, Mapping[str, str]]] = {
        spec.role: (spec.name, spec.partitions, spec.settings) for spec in specs(topics)
    }
    return {
        "record.schema.json": record_schema(),
        "asyncapi.json": asyncapi(roles),
        **{f"modifications/{type_}.schema.json": modification_schema(type_) for type_ in MODIFICATIONS},
    }


def write(directory: Path = DIRECTORY) -> list[str]:
    """Write all documents, and remove JSON files there that are none any more.

    Returns:
        What was changed, as `check` would have said.
    """
    drift = check(directory)
    expected = _files()
    for path in set(_present(directory)) - set(expected):
        (directory / path).unlink()
    for path, content in expected.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    return drift


def check(directory: Path = DIRECTORY) -> list[str]:
    """One line for each file that is missing, differs from what would be written, or should not be there."""
    expected = _files()
    present = _present(directory)
    faults = []
    for path, content in expected.items():
        if path not in present:
            faults.append(f"{path}: missing")
        elif (directory / path).read_bytes() != content:
            faults.append(f"{path}: differs from the structs")
    faults += [f"{path}: not generated" for path in present if path not in expected]
    return faults


def _files() -> dict[str, bytes]:
    return {
        path: msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
        for path, document in documents().items()
    }


def _present(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*.json"))


@click.command()
@click.option("--check", "only_check", is_flag=True, help="Write nothing; fail if a file has drifted.")
@click.option("--directory", type=click.Path(path_type=Path), default=DIRECTORY, show_default=True)
def main(only_check: bool, directory: Path) -> None:
    """Write the JSON Schemas and the AsyncAPI document."""
    faults = check(directory) if only_check else write(directory)
    for fault in faults:
        click.echo(fault)
    if only_check and faults:
        raise click.ClickException("the schemas have drifted: python -m tidings.cli.schemas")


if __name__ == "__main__":
    main()
