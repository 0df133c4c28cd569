"""Who may come in: the limits on connections and on resumes, and when those who may not should try again."""

import random
from http import HTTPStatus
from typing import TYPE_CHECKING

from tidings.gateway.allowance import Allowances, Storm
from tidings.gateway.handshake import Accepted
from tidings.gateway.refusals import Refused
from tidings.gateway.registry import Registry
from tidings.gateway.router import Subscriber

if TYPE_CHECKING:
    from tidings.gateway.node import NodeLimits

__all__ = ["Admission", "refused_for_now"]


class Admission:
    """Applies a node's limits to clients whose request is in order.

    Args:
        limits: The node's.
        registry: Who is in.
        now: Seconds, any clock that never goes back.
    """

    def __init__(self, limits: "NodeLimits", registry: Registry[Subscriber], now: float) -> None:
        self._limits = limits
        self._registry = registry
        per_user = limits.resume.per_user_per_min
        self._user_resumes = Allowances(per_user / 60, per_user)
        self._storm = Storm(limits.resume.per_s, now)

    def check(self, accepted: Accepted, now: float) -> None:
        """Let a client in or not.

        Raises:
            Refused: 503 the node is full or too many resume at once, 429 too many of this user or address, or this user
                resumes too often; all with Retry-After, jittered.
        """
        limits = self._limits
        registry = self._registry
        if limits.connections and len(registry) >= limits.connections:
            raise refused_for_now(HTTPStatus.SERVICE_UNAVAILABLE, "node_full", "This node holds all it may.", 5, 5)
        if limits.connections_per_user and len(registry.connections_of(accepted.user)) >= limits.connections_per_user:
            raise refused_for_now(
                HTTPStatus.TOO_MANY_REQUESTS, "user_limit", "Too many connections of this user.", 30, 30
            )
        if limits.connections_per_address and registry.count_at(accepted.address) >= limits.connections_per_address:
            raise refused_for_now(
                HTTPStatus.TOO_MANY_REQUESTS, "address_limit", "Too many connections from this address.", 30, 30
            )
        if accepted.cursor and accepted.encoding.resumable:
            self._check_resume(accepted.user, now)

    def _check_resume(self, user: str, now: float) -> None:
        limits = self._limits.resume
        if limits.per_user_per_min:
            allowance = self._user_resumes.of(user, now)
            if not allowance.take(1, now):
                wait_s = 1 + int(allowance.wait_s(1, now))
                raise refused_for_now(
                    HTTPStatus.TOO_MANY_REQUESTS, "user_resume_rate", "This user resumes too often.", wait_s, wait_s
                )
        if limits.per_s and (spread_s := self._storm.admit(now)) is not None:
            raise refused_for_now(
                HTTPStatus.SERVICE_UNAVAILABLE, "resume_rate", "Too many clients resume at once.", 1, 1 + int(spread_s)
            )


def refused_for_now(status: HTTPStatus, error: str, reason: str, at_least_s: int, spread_s: int) -> Refused:
    """A refusal that says when to come again: those who were refused together do not come back together."""
    retry_after_s = at_least_s + random.randrange(spread_s + 1)  # noqa: S311 - nothing secret
    return Refused(status, error, reason, [("Retry-After", str(retry_after_s))])
