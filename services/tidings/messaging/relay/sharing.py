"""Who relays which part of the outbox, so that all processes come to the same answer without talking."""

from collections.abc import Collection, Mapping, Sequence

__all__ = ["share"]


def share(shards: Sequence[int], members: Collection[int], holders: Mapping[int, int]) -> dict[int, int]:
    """The member that should hold each shard: evenly, and with as few moves as that allows.

    The same arguments give the same answer everywhere. Acted on by everybody (give what is another's, take what is
    yours once it is free), it becomes what `holders` says, and is then its own answer: nothing moves any more.

    Args:
        members: All processes, by any number of their own.
        holders: Who holds which shard now; who is no member counts as nobody.
    Returns:
        A member for each shard; empty without members.
    """
    if not members:
        return {}
    held: dict[int, list[int]] = {member: [] for member in sorted(members)}
    for shard in sorted(shards):
        if holders.get(shard) in held:
            held[holders[shard]].append(shard)
    each, over = divmod(len(shards), len(held))
    # Who holds most keeps one more, so that what is even already stays as it is.
    order = sorted(held, key=lambda member: (-len(held[member]), member))
    quota = {member: each + (place < over) for place, member in enumerate(order)}
    shares = {shard: member for member, mine in held.items() for shard in mine[: quota[member]]}
    free = [shard for shard in sorted(shards) if shard not in shares]
    for member in order:
        missing = quota[member] - min(len(held[member]), quota[member])
        shares.update((shard, member) for shard in free[:missing])
        free = free[missing:]
    return shares
