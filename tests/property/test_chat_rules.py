"""Rules of chats hold for any text and any people."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.messaging.chats import chat
from tidings.errors import DomainError, Forbidden, InvalidInput
from tidings.messaging.domain import grouping, rules
from tidings.messaging.domain.model import Kind

PEOPLE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
PAIRS = st.tuples(PEOPLE, PEOPLE)
PERSONAL = st.sampled_from([Kind.PERSONAL, Kind.SECRET_PERSONAL])
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=80)


@given(PERSONAL, PAIRS, PERSONAL, PAIRS)
def test_two_pairs_share_a_key_only_if_they_are_the_same_people(
    kind: Kind, pair: tuple[str, str], other_kind: Kind, other: tuple[str, str]
) -> None:
    same = kind is other_kind and sorted(pair) == sorted(other)
    assert (rules.pair_key(kind, *pair) == rules.pair_key(other_kind, *other)) == same


@given(ANY_TEXT)
def test_a_name_is_kept_as_it_is_and_can_be_stored_or_it_is_refused(text: str) -> None:
    for rule in (grouping.checked_group_name, grouping.checked_description, grouping.checked_room):
        try:
            kept = rule(text)
        except InvalidInput:
            continue
        assert kept == text
        assert "\0" not in kept
        kept.encode()


@given(PEOPLE, st.lists(PEOPLE, max_size=12))
def test_a_group_begins_with_each_of_the_named_once_and_its_maker(admin: str, named: list[str]) -> None:
    try:
        members = grouping.checked_group_members(admin, named)
    except Forbidden:
        assert admin not in named
        return
    assert admin in members
    assert len(members) == len(set(members))
    assert set(members) == set(named)


@given(st.lists(st.sampled_from("abcd"), min_size=1, unique=True), st.sampled_from("abcde"), st.sampled_from("abcde"))
def test_whoever_may_be_added_may_not_be_removed_and_the_other_way_round(
    members: list[str], actor: str, user: str
) -> None:
    group = chat(Kind.GROUP, *members)

    def allowed(rule: object) -> bool:
        try:
            rule(group, actor, user)  # type: ignore[operator]
        except DomainError:
            return False
        return True

    joins, leaves = allowed(grouping.checked_joining), allowed(grouping.checked_leaving)
    assert not (joins and leaves)
    assert joins == (actor == members[0] and user not in members)
    assert leaves == (user in members[1:] and actor in (members[0], user))
