"""Where a browser's page came from, compared with the host that it asks: the same rule for every port of ours."""

from typing import Final
from urllib.parse import urlsplit

__all__ = ["same_host"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def same_host(origin: str, host: str) -> bool:
    """Whether the page came from the host and port that are asked now; the scheme's own port may be left out.

    The scheme is not compared: behind a load balancer that ends TLS nobody here knows it.

    Args:
        origin: Of the header Origin; `null`, or what is no origin, came from nowhere.
        host: Of the header Host.
    """
    try:
        page = urlsplit(origin)
        asked = urlsplit(f"//{host}")
        default_port = _DEFAULT_PORTS.get(page.scheme)
        return (
            default_port is not None
            and page.hostname is not None
            and page.hostname == asked.hostname
            and (page.port or default_port) == (asked.port or default_port)
        )
    except ValueError:
        return False
