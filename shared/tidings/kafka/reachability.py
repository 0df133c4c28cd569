"""Why no broker was reached, told to who asked; aiokafka itself only logs it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import KafkaConnectionError

__all__ = ["telling_why"]


@contextmanager
def telling_why() -> Iterator[None]:
    """Around the start of an aiokafka client: the error that no broker was reached names the reason of each.

    Such as a refused password, or an authority that is not trusted. Of clients that start at the same time in one
    process, one may name the other's, too.

    Raises:
        KafkaConnectionError: As aiokafka does.
    """
    reasons: dict[str, None] = {}

    def note(record: logging.LogRecord) -> bool:
        if str(record.msg).startswith("Unable"):
            reasons[record.getMessage()] = None
        return True

    logger = logging.getLogger("aiokafka")
    logger.addFilter(note)
    try:
        yield
    except KafkaConnectionError as error:
        if not reasons:
            raise
        raise KafkaConnectionError(f"Unable to bootstrap: {'; '.join(reasons)}") from error
    finally:
        logger.removeFilter(note)
