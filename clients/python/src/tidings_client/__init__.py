"""Client of Tidings gateways: every event once and in order, over reconnects and restarts.

async with connect("wss://gateway.example", token=get_token) as client:
    async for event in client:
        print(event.type, event.data)
"""

from tidings_client.catching_up import Page, sync
from tidings_client.client import Client, OnResync, connect
from tidings_client.errors import (
    Disconnected,
    InvalidPosition,
    InvalidState,
    ProtocolViolation,
    Refused,
    SyncFailed,
    TidingsClientError,
    TokenRefused,
)
from tidings_client.frames import Event, Resync
from tidings_client.position import Position
from tidings_client.retry import Backoff
from tidings_client.token_keeper import TokenSource

__all__ = [
    "Backoff",
    "Client",
    "Disconnected",
    "Event",
    "InvalidPosition",
    "InvalidState",
    "OnResync",
    "Page",
    "Position",
    "ProtocolViolation",
    "Refused",
    "Resync",
    "SyncFailed",
    "TidingsClientError",
    "TokenRefused",
    "TokenSource",
    "connect",
    "sync",
]
