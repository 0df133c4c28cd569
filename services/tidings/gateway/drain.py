"""In which waves the connections of a node are told to go."""

__all__ = ["WAVE_S", "waves"]

WAVE_S = 0.25
"""Seconds between two waves."""


def waves(connections: int, drain_s: float) -> list[int]:
    """How many connections to close in each wave, one wave every `WAVE_S`, all told within 80 % of `drain_s`.

    The rest of the time is for their closing handshakes. Waves differ by one at most; the first goes at once. A fleet
    that takes over meets the reconnects spread over the drain and not at one moment.
    """
    if connections <= 0:
        return []
    count = max(1, min(connections, int(drain_s * 0.8 / WAVE_S)))
    each, more = divmod(connections, count)
    return [each + (1 if wave < more else 0) for wave in range(count)]
