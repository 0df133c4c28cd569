"""Who relays which shard: even, settled, and with few moves."""

from hypothesis import given
from hypothesis import strategies as st

from tidings.messaging.relay.sharing import share

SHARDS = range(4)
MEMBERS = st.frozensets(st.integers(1, 99), min_size=1, max_size=9)
HOLDERS = st.dictionaries(st.integers(0, 3), st.integers(1, 99))


@given(MEMBERS, HOLDERS)
def test_every_shard_is_somebodys_and_nobody_has_two_more_than_another(
    members: frozenset[int], holders: dict[int, int]
) -> None:
    shares = share(SHARDS, members, holders)
    counts = [list(shares.values()).count(member) for member in members]
    assert shares.keys() == set(SHARDS)
    assert set(shares.values()) <= members
    assert max(counts) - min(counts) <= 1


@given(MEMBERS, HOLDERS)
def test_what_is_shared_out_stays_so(members: frozenset[int], holders: dict[int, int]) -> None:
    shares = share(SHARDS, members, holders)
    assert share(SHARDS, members, shares) == shares


@given(MEMBERS, HOLDERS, st.integers(1, 99))
def test_a_newcomer_moves_only_what_it_gets(members: frozenset[int], holders: dict[int, int], newcomer: int) -> None:
    before = share(SHARDS, members, holders)
    after = share(SHARDS, members | {newcomer}, before)
    assert all(after[shard] in (before[shard], newcomer) for shard in SHARDS)


@given(MEMBERS, HOLDERS)
def test_who_goes_leaves_the_others_what_they_have(members: frozenset[int], holders: dict[int, int]) -> None:
    before = share(SHARDS, members, holders)
    gone = min(members)
    after = share(SHARDS, members - {gone}, before)
    if len(members) > 1:
        assert all(after[shard] == before[shard] for shard in SHARDS if before[shard] != gone)
    else:
        assert after == {}


def test_a_holder_that_is_no_member_counts_as_nobody() -> None:
    assert share(SHARDS, {1}, {0: 7, 1: 7, 2: 1}) == dict.fromkeys(SHARDS, 1)


def test_one_gets_all_two_get_half_each() -> None:
    assert share(SHARDS, {5}, {}) == dict.fromkeys(SHARDS, 5)
    assert share(SHARDS, {5, 9}, dict.fromkeys(SHARDS, 5)) == {0: 5, 1: 5, 2: 9, 3: 9}
