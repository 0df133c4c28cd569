"""`tidings topics`: make the topics, or say what is wrong with them."""

import os
from pathlib import Path

import click

from tidings.cli.state import kafka_settings
from tidings.config import TopicSettings
from tidings.kafka import topics as kafka_topics
from tidings.kafka.topic_specs import ROLES, specs

__all__ = ["topics"]


@click.group(short_help="Make or check the Kafka topics.")
def topics() -> None:
    """Make the Kafka topics with the settings they need, or check that they have them.

    Which Kafka: TIDINGS_KAFKA_BOOTSTRAP_SERVERS, else the one that `tidings up` runs here, else 127.0.0.1:9092.
    """


@topics.command(short_help="Make the topics that are missing.")
@click.option("--partitions", type=click.IntRange(1), help="For each new topic. [default: TIDINGS_TOPIC_PARTITIONS]")
@click.pass_obj
def create(state_dir: Path, partitions: int | None) -> None:
    """Make the topics that are missing; those that exist are left as they are (`tidings topics check` judges them).

    \b
    Example:
      TIDINGS_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 tidings topics create --partitions 48
    """
    kafka, names = kafka_settings(state_dir, os.environ)
    if partitions is not None:
        names = TopicSettings(**{**names.model_dump(), "partitions": partitions})
    made = kafka_topics.create(kafka, names)
    for spec in specs(names):
        click.echo(f"{spec.name}: {'made' if spec.name in made else 'was there'}")


@topics.command(short_help="Say what is wrong with the topics.")
@click.pass_obj
def check(state_dir: Path) -> None:
    """Say what is wrong with the topics, one line for each problem; exit code 1 if there is any.

    \b
    Example:
      tidings topics check && echo all well
    """
    kafka, names = kafka_settings(state_dir, os.environ)
    problems = kafka_topics.check(kafka, names)
    for line in problems:
        click.echo(line)
    if problems:
        raise SystemExit(1)
    click.echo(f"all {len(ROLES)} topics at {kafka.bootstrap_servers} are as they should be")
