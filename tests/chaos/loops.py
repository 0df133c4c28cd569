"""The fast event loop for tests with thousands of clients."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

import uvloop

__all__ = ["fast_loop"]

P = ParamSpec("P")


def fast_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Makes a test that is a coroutine run on uvloop; fixtures are found by its arguments as ever."""

    @wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        uvloop.run(test(*arguments, **named))

    return run
