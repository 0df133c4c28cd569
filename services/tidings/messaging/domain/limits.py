"""The limits of what people may write and make. Source: chakchat's domain rules; times and counts beyond are ours."""

from typing import Final

__all__ = [
    "MAX_ATTACHMENTS",
    "MAX_CLIENT_MESSAGE_ID_CHARS",
    "MAX_DESCRIPTION_BYTES",
    "MAX_EXPIRATION_S",
    "MAX_FILE_BYTES",
    "MAX_FILE_NAME_CHARS",
    "MAX_FILE_URL_CHARS",
    "MAX_GROUP_MEMBERS",
    "MAX_GROUP_NAME_BYTES",
    "MAX_MEMBERS_BYTES",
    "MAX_META_BYTES",
    "MAX_MIME_TYPE_CHARS",
    "MAX_PHOTO_BYTES",
    "MAX_PREVIEW",
    "MAX_PREVIEWS_UPDATES",
    "MAX_PREVIEW_UPDATES",
    "MAX_ROOM_CHARS",
    "MAX_SECRET_CHARS",
    "MAX_TEXT_CHARS",
    "MAX_UPDATES_PER_PAGE",
    "MAX_USER_ID_CHARS",
    "PHOTO_TYPES",
    "REACTIONS",
]

MAX_TEXT_CHARS: Final = 2_000
"""Unicode code points of a text; at least one."""
MAX_GROUP_NAME_BYTES: Final = 50
"""UTF-8 bytes; at least one."""
MAX_DESCRIPTION_BYTES: Final = 300
MAX_FILE_BYTES: Final = 1 << 30
MAX_PHOTO_BYTES: Final = 2 << 20
PHOTO_TYPES: Final = frozenset(f"image/{kind}" for kind in ("jpeg", "png", "webp", "gif", "heif", "heic"))
REACTIONS: Final = frozenset({"heart", "like", "thunder", "cry", "dislike", "bzZZ"})
MAX_GROUP_MEMBERS: Final = 100_000
"""As many as one record may name; a list beyond 5,000 is split."""
MAX_SECRET_CHARS: Final = 262_144
"""Of each part of a secret update, in base64."""
MAX_MEMBERS_BYTES: Final = 800_000
"""JSON of all members' ids of one group (20,000 uuids): the record that shows a newcomer the group names them all, and
must leave room for its receivers."""
MAX_USER_ID_CHARS: Final = 256
"""As long as a receiver may be."""
MAX_EXPIRATION_S: Final = 9_223_372_036
"""What 64 bits of nanoseconds hold: 292 years."""
MAX_FILE_NAME_CHARS: Final = 1_024
MAX_MIME_TYPE_CHARS: Final = 256
MAX_FILE_URL_CHARS: Final = 4_096
MAX_ROOM_CHARS: Final = 256
MAX_PREVIEW: Final = 100
"""Messages shown with a chat; also the updates after them, up to the next limit."""
MAX_PREVIEW_UPDATES: Final = 1_000
"""Of one chat, the newest; what is older is read as a range."""
MAX_PREVIEWS_UPDATES: Final = 20_000
"""Of all chats in one answer, shared out evenly."""
MAX_ATTACHMENTS: Final = 20
"""Files of one message."""
MAX_META_BYTES: Final = 4_096
"""JSON of what a sender says about one of its files (width, height, duration)."""
MAX_CLIENT_MESSAGE_ID_CHARS: Final = 128
MAX_UPDATES_PER_PAGE: Final = 1_000
"""Of one answer; who asks for more is told where to go on."""
