"""A page is ours if it came from the host and port that it asks."""

import pytest

from tidings.origins import same_host


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://chat.example", "chat.example"),
        ("https://chat.example", "chat.example:443"),
        ("http://chat.example:80", "chat.example"),
        ("http://chat.example:8081", "chat.example:8081"),
        ("https://CHAT.example", "chat.EXAMPLE"),
        ("http://[::1]:8081", "[::1]:8081"),
    ],
)
def test_the_same_host_and_port(origin: str, host: str) -> None:
    assert same_host(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "chat.example"),
        ("https://chat.example.evil.example", "chat.example"),
        ("https://evil.example/chat.example", "chat.example"),
        ("http://chat.example:3000", "chat.example:8081"),
        ("http://chat.example", "chat.example:443"),
        ("https://chat.example", "chat.example:80"),
        ("ftp://chat.example", "chat.example"),
        ("chat.example", "chat.example"),
        ("null", "null"),
        ("", ""),
        ("https://", ""),
        ("http://[::1", "[::1"),
        ("http://chat.example:99999", "chat.example:99999"),
        ("http://chat.example:port", "chat.example:port"),
    ],
)
def test_another_one_or_none(origin: str, host: str) -> None:
    assert not same_host(origin, host)
