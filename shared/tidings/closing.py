"""The close codes of the gateway and what each one asks the client to do."""

from enum import IntEnum
from typing import Final

__all__ = ["ADVICE", "SSE_CODES", "CloseCode"]


class CloseCode(IntEnum):
    """Close codes that the gateway sends.

    1000 to 1015 mean what RFC 6455 says. 4000 to 4099 are ours.
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    INVALID_PAYLOAD = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    TOKEN_ENDED = 4001
    DISCONNECTED = 4002
    TOO_SLOW = 4008
    IDLE = 4011


ADVICE: Final[dict[CloseCode, str]] = {
    CloseCode.NORMAL: "The client closed; nothing to do.",
    CloseCode.GOING_AWAY: "The node drains: reconnect now, with the cursor; the load balancer names another node.",
    CloseCode.PROTOCOL_ERROR: "A frame broke RFC 6455: mend the client; do not reconnect in a loop.",
    CloseCode.INVALID_PAYLOAD: "A text was not UTF-8, or a compressed message was damaged: mend the client.",
    CloseCode.POLICY: "A limit on what clients send was passed: slow down, reconnect after a minute.",
    CloseCode.TOO_BIG: "A message was over the size limit: send smaller ones.",
    CloseCode.INTERNAL_ERROR: "The gateway failed: reconnect with backoff and jitter, with the cursor.",
    CloseCode.TOKEN_ENDED: "Get a new token, then reconnect with the cursor.",
    CloseCode.DISCONNECTED: "An operator ended the session: do not reconnect by yourself.",
    CloseCode.TOO_SLOW: "The client read too slowly: reconnect with the cursor to get the rest.",
    CloseCode.IDLE: "Nothing came back for too long: reconnect with the cursor.",
}
"""Per code, one sentence for the client's developer; README prints this table."""

SSE_CODES: Final[frozenset[CloseCode]] = frozenset(ADVICE) - {
    CloseCode.NORMAL,
    CloseCode.PROTOCOL_ERROR,
    CloseCode.INVALID_PAYLOAD,
    CloseCode.TOO_BIG,
}
"""Those that end an event stream too: its client sends nothing that could be wrong or too big."""
