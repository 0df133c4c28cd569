"""How long to leave a broker alone between two fetches: next to nothing for a node at ease, longer for a busy one."""

from typing import Final

__all__ = ["EASY_S", "pause_s"]

EASY_S: Final = 0.005
"""A round costs about 0.1 ms of CPU whatever it brings, so even a node at ease asks no more often than this."""

_WORK_SHARE: Final = 3.0
"""A node that spends a quarter of its time or more on records waits the longest: then what gathers is worth most."""


def pause_s(work_s: float, limit_s: float) -> float:
    """Seconds from a round's answer to the next question.

    Records that arrive meanwhile come in one fetch and leave in one write per connection, so a pause trades delay
    (half of it on average) for CPU. The busier the node, the more a write saved is worth and the less the pause adds.

    Args:
        work_s: What routing and writing the round took.
        limit_s: The most that is traded; under `EASY_S` it is the pause.
    """
    return min(limit_s, max(EASY_S, work_s * _WORK_SHARE))
