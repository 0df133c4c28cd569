"""Values of settings that need more than a type: each function takes what was given and returns what is meant.

They raise ValueError with what is wrong with this very value, or with nothing where the setting's `accepts` says all.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

__all__ = [
    "ByteCount",
    "ClaimName",
    "Host",
    "Networks",
    "NodeName",
    "Origins",
    "ReadableFile",
    "Servers",
    "TopicName",
    "WebAddress",
    "byte_count",
    "lower",
    "own_name",
    "upper",
]

_UNITS: Final = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def byte_count(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9]{1,18})\s*([A-Za-z]*)\s*", value)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError
    return int(match[1]) * _UNITS[match[2].lower()]


def readable_file(value: object) -> object:
    path = Path(str(value)).expanduser()
    if not path.is_file():
        raise ValueError("there is no such file" if not path.exists() else "that is not a file")
    if not os.access(path, os.R_OK):
        raise ValueError("that file may not be read by this user")
    return path


def networks(value: object) -> object:
    parts = split(value)
    assert isinstance(parts, Sequence)
    found = []
    for part in parts:
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError:
            try:  # host bits set: widening the trust in silence would be the wrong kindness
                wider = ipaddress.ip_network(part, strict=False)
            except ValueError:
                raise ValueError(f"{part!r} is no network") from None
            raise ValueError(f"{part!r} has host bits set; {wider} or a single address?") from None
    return tuple(found)


ByteCount = Annotated[int, BeforeValidator(byte_count)]
"""A number of bytes: `1048576`, `1024KiB` or `1MiB`."""

Networks = Annotated[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], NoDecode, BeforeValidator(networks)]
"""Comma-separated addresses or CIDR networks."""

ReadableFile = Annotated[Path, BeforeValidator(readable_file)]
"""A file that this process may read at the time of loading."""


def lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


_SERVER: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?")


def servers(value: str) -> str:
    listed = [part.strip() for part in value.split(",") if part.strip()]
    for server in listed:
        match = _SERVER.fullmatch(server)
        if match is None or not 0 < int(match["port"] or 9092) < 65536:
            raise ValueError(f"{server!r} is no host:port")
    if not listed:
        raise ValueError("no server in it")
    return ",".join(listed)


def topic_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value) or value in {".", ".."}:
        raise ValueError
    return value


TopicName = Annotated[str, AfterValidator(topic_name)]


def web_address(value: str) -> str:
    address = value.strip()
    if re.search(r"://[^/?#]*@", address):
        raise ValueError("a user name or password in the address would end in logs")
    try:
        parts = urlsplit(address)
        fits = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError
    return address


def claim_name(value: str) -> str:
    if value in {"exp", "nbf", "iat", "aud"}:
        raise ValueError("that claim means something else")
    return value


def host(value: str) -> str:
    host = value.strip()
    if "://" in host or "/" in host or any(c.isspace() for c in host):
        raise ValueError
    return host


def node_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", value):
        raise ValueError
    return value


def own_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:128] or "gateway"


def _origin(value: str) -> str:
    if value in {"*", "null"}:
        return value
    parts = urlsplit(value)
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"{value!r} has no valid port") from None
    if "*" in value:
        raise ValueError(f"{value!r}: list the hosts one by one, or * alone for every page")
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError(f"{value!r} is no origin")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(f"{value!r}: an origin ends with the host or port")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    implied = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in {None, implied} else "")


def origins(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_origin(value) for value in values))


Servers = Annotated[str, AfterValidator(servers)]
"""Comma-separated host:port."""

WebAddress = Annotated[str, AfterValidator(web_address)]
"""An http or https address without credentials in it."""

ClaimName = Annotated[str, AfterValidator(claim_name)]
"""The name of a claim that may say who the user is."""

Host = Annotated[str, AfterValidator(host)]
"""An address or name to listen on."""

NodeName = Annotated[str, AfterValidator(node_name)]
"""A node's name, which is part of Kafka keys."""

Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split), AfterValidator(origins)]
"""Comma-separated origins, as browsers write them: lower case, no port that the scheme implies, no slash."""
