"""What keeps modifications in order: one key, one shard."""

from collections import Counter
from uuid import UUID, uuid5

import pytest

from tidings.messaging.domain.modification import SHARDS, Modification, shard_of

CHAT = UUID(int=1)
FIRST_SHARDS = [2, 0, 3, 2, 3, 3]


def test_what_happens_in_a_chat_has_the_chats_key() -> None:
    made = Modification(chat_id=CHAT, type="update", receivers=["ann"], data={}, context={})
    assert made.record_key == str(CHAT)


def test_what_happens_outside_of_chats_has_a_key_of_its_own() -> None:
    made = Modification(key="ann", type="user_updated", receivers=["bob"], data={}, context={})
    assert made.record_key == "ann"


@pytest.mark.parametrize("keys", [{}, {"chat_id": CHAT, "key": "ann"}])
def test_it_has_exactly_one_of_the_two(keys: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        Modification(type="update", receivers=[], data={}, context={}, **keys)  # type: ignore[arg-type]


def test_a_key_is_always_in_the_same_shard() -> None:
    # Rows in a database hold these numbers: they may not change from release to release.
    assert [shard_of(str(UUID(int=number))) for number in range(6)] == FIRST_SHARDS


def test_keys_are_spread_over_all_shards() -> None:
    found = Counter(shard_of(str(uuid5(CHAT, str(number)))) for number in range(4_000))
    assert set(found) == set(range(SHARDS))
    assert max(found.values()) < 1.2 * min(found.values())
