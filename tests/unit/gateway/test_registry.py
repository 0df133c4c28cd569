"""Who is connected."""

from tests.gateway_fakes import Member
from tidings.gateway.frames import Encoding
from tidings.gateway.registry import Registry


def test_a_user_has_many_connections_oldest_first() -> None:
    registry: Registry[Member] = Registry()
    first, second = Member("alice"), Member("alice")
    assert registry.add(first)
    assert not registry.add(second)
    assert registry.connections_of("alice") == (first, second)
    assert list(registry) == [first, second]
    assert len(registry) == 2


def test_only_the_first_and_the_last_of_a_user_change_presence() -> None:
    registry: Registry[Member] = Registry()
    first, second = Member("alice"), Member("alice")
    assert [registry.add(first), registry.add(second)] == [True, False]
    assert [registry.remove(first), registry.remove(second)] == [False, True]
    assert not any(registry.audiences)


def test_who_is_not_here_can_leave_without_harm() -> None:
    registry: Registry[Member] = Registry()
    here, stranger = Member("alice"), Member("alice")
    assert not registry.remove(here)
    registry.add(here)
    assert not registry.remove(stranger)
    assert here in registry
    assert stranger not in registry
    assert registry.remove(here)
    assert not registry.remove(here)
    assert len(registry) == 0


def test_who_walks_the_connections_of_a_user_may_close_them_meanwhile() -> None:
    registry: Registry[Member] = Registry()
    for _ in range(5):
        registry.add(Member("alice"))
    assert sum(registry.remove(member) or True for member in registry.connections_of("alice")) == 5
    assert len(registry) == 0


def test_counts_per_address_and_protocol_follow() -> None:
    registry: Registry[Member] = Registry()
    one = Member("alice", Encoding.V1, address="a")
    two = Member("bob", Encoding.V1_DEFLATE, address="a")
    three = Member("bob", Encoding.SSE, address="b")
    for member in (one, two, three):
        registry.add(member)
    assert (registry.count_at("a"), registry.count_at("b"), registry.count_at("c")) == (2, 1, 0)
    assert registry.protocols() == {"v1": 2, "sse": 1}
    registry.remove(one)
    registry.remove(three)
    assert (registry.count_at("a"), registry.count_at("b")) == (1, 0)
    assert registry.protocols() == {"v1": 1, "sse": 0}


def test_a_held_connection_counts_but_no_record_is_routed_to_it() -> None:
    registry: Registry[Member] = Registry()
    member = Member("alice")
    assert registry.add(member, held=True)
    assert not any(registry.audiences)
    assert (registry.held, len(registry), registry.connections_of("alice")) == (1, 1, (member,))
    registry.release(member)
    assert registry.audiences[member.encoding] == {"alice": (member,)}
    assert registry.held == 0
    registry.hold(member)
    assert not any(registry.audiences)
    assert registry.held == 1
    assert registry.remove(member)
    assert (registry.held, len(registry)) == (0, 0)


def test_to_hold_or_release_a_connection_again_or_after_it_left_changes_nothing() -> None:
    registry: Registry[Member] = Registry()
    member = Member("alice")
    registry.hold(member)
    registry.release(member)
    assert list(registry) == []
    registry.add(member)
    registry.release(member)
    assert list(registry) == [member]
    registry.hold(member)
    registry.hold(member)
    assert list(registry) == [member]
    assert registry.held == 1


def test_connected_receivers_are_found_each_once() -> None:
    registry: Registry[Member] = Registry()
    registry.add(Member("alice"))
    assert registry.connected(["alice", "bob", "alice"]) == {"alice"}
    assert registry.connected([]) == set()
    assert registry.connections_of("bob") == ()
