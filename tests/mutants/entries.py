"""The mutants: for each guarantee one small change that breaks it, and the test that must see it."""

from typing import Final, NamedTuple

__all__ = ["MUTANTS", "Mutant"]


class Mutant(NamedTuple):
    """One change of one place.

    Attributes:
        name: What is broken, in one word or a few.
        guarantee: What no longer holds.
        file: Under the root of the tree.
        old: Text that occurs exactly once in it.
        new: What stands there instead.
        test: pytest's name of the test that must fail.
    """

    name: str
    guarantee: str
    file: str
    old: str
    new: str
    test: str


_GATEWAY: Final = "services/tidings/gateway/"
_KAFKA: Final = "shared/tidings/kafka/"
_UNIT: Final = "tests/unit/gateway/"

MUTANTS: Final[tuple[Mutant, ...]] = (
    # ---- The window
    Mutant(
        "window-unbounded-bytes",
        "The window is bounded in bytes.",
        _GATEWAY + "window.py",
        "        if self.bytes > self._limit_bytes:\n            self._shed()",
        "        if self.bytes > self._limit_bytes * 100:\n            self._shed()",
        _UNIT + "test_window.py::test_the_oldest_go_first_when_all_together_are_over_the_limit",
    ),
    Mutant(
        "window-unbounded-age",
        "The window is bounded in age.",
        _GATEWAY + "window.py",
        "self._newest_ms - self._limit_ms",
        "self._newest_ms - self._limit_ms * 100",
        _UNIT + "test_window.py::test_what_is_too_old_goes_and_only_the_log_s_clock_counts",
    ),
    Mutant(
        "window-forgets-what-it-dropped",
        "What the window dropped is read back or ends in `$resync`: no silent gap.",
        _GATEWAY + "window.py",
        "        known.start = segment.end",
        "        known.start = segment.first",
        _UNIT + "test_window.py::test_the_oldest_go_first_when_all_together_are_over_the_limit",
    ),
    Mutant(
        "window-hole-is-a-loss",
        "Holes that aborted transactions left are no gap.",
        _GATEWAY + "window.py",
        "            known.segments[-1].end = next_offset",
        "            pass",
        _UNIT + "test_window.py::test_holes_belong_to_the_window",
    ),
    Mutant(
        "window-keeps-after-a-jump",
        "After a jump over lost records the window holds no gap.",
        _GATEWAY + "router.py",
        "        self.positions[partition] = position\n        self._window.begin(partition, position)",
        "        self.positions[partition] = position",
        _UNIT + "test_log_watch.py::test_after_a_jump_the_window_reaches_back_no_further",
    ),
    Mutant(
        "segment-misses-a-receiver",
        "A resume looks into every segment that names the user.",
        _GATEWAY + "window.py",
        "sorted(self._growing)",
        "sorted(self._growing)[1:]",
        _UNIT + "test_window.py::test_an_indexed_segment_knows_whom_it_names",
    ),
    Mutant(
        "indexed-segment-grows",
        "A record that comes after its segment was indexed is found all the same.",
        _GATEWAY + "window.py",
        "return self._hashes is not None or len(self._values)",
        "return len(self._values)",
        _UNIT + "test_window.py::test_no_record_is_hidden_by_an_index_that_shrank_its_segment",
    ),
    Mutant(
        "needle-knows-no-integers",
        "A receiver written as an integer is found in the window.",
        _GATEWAY + "window.py",
        "user.encode() if _INTEGER.fullmatch(user) else _encode(user)",
        "_encode(user)",
        _UNIT + "test_window.py::test_a_needle_misses_no_way_to_write_an_id",
    ),
    Mutant(
        "needle-knows-no-escapes",
        "A receiver written with escapes is found in the window.",
        _GATEWAY + "window.py",
        'return self._bytes in value or b"\\\\" in value',
        "return self._bytes in value",
        _UNIT + "test_window.py::test_a_needle_misses_no_way_to_write_an_id",
    ),
    Mutant(
        "window-gives-repeats",
        "A modification that stands twice in the log is not replayed twice.",
        _GATEWAY + "router.py",
        '                routed.count("repeat")\n                continue',
        '                routed.count("repeat")\n'
        "                window.append(partition, offset, value, modification.receivers, record.timestamp)\n"
        "                continue",
        _UNIT + "test_resumes.py::test_repeats_and_poison_are_not_replayed",
    ),
    # ---- The replay
    Mutant(
        "replay-repeats-a-segment",
        "Nothing is replayed that the client has.",
        _GATEWAY + "replay.py",
        "for kept in segment.since(offset):",
        "for kept in segment.since(segment.first):",
        _UNIT + "test_replay.py::test_all_that_was_missed_comes_and_then_it_has_met_the_node",
    ),
    Mutant(
        "replay-runs-past-the-node",
        "What the node has not routed yet comes live, not also from the replay.",
        _GATEWAY + "replay.py",
        "                        if kept.offset >= end:\n                            break\n",
        "",
        _UNIT + "test_replay.py::test_what_is_older_than_the_window_comes_from_what_was_read_back",
    ),
    Mutant(
        "replay-skips-the-unnamed",
        "A partition that the cursor does not name counts from 0.",
        _GATEWAY + "replay.py",
        "offset = self.positions.setdefault(partition, 0)",
        "offset = self.positions.setdefault(partition, end)",
        _UNIT + "test_replay.py::test_a_partition_that_the_cursor_does_not_name_counts_from_0",
    ),
    Mutant(
        "replay-shows-strangers",
        "A replay gives nobody what is not for them.",
        _GATEWAY + "replay.py",
        "return record if user in record.receivers else None",
        "return record",
        _UNIT + "test_replay.py::test_poison_and_look_alikes_in_what_was_read_back_reach_nobody",
    ),
    Mutant(
        "replay-without-effort-limit",
        "A resume with very much to search does not hold live records up.",
        _GATEWAY + "replay.py",
        "                        if effort <= 0:\n",
        "                        if effort <= -(10**9):\n",
        _UNIT + "test_replay.py::test_effort_bounds_what_is_searched_at_once_also_where_nothing_is_found",
    ),
    Mutant(
        "replay-ends-where-the-node-is-behind",
        "A client ahead of this node gets nothing again.",
        _GATEWAY + "replay.py",
        "        return self.positions == positions",
        "        return all(self.positions.get(each, 0) >= offset for each, offset in positions.items())",
        _UNIT + "test_resumes.py::test_a_client_ahead_of_this_node_gets_nothing_twice"
        "_and_is_live_once_the_node_has_come_as_far",
    ),
    # ---- Taking part
    Mutant(
        "live-during-the-replay",
        "Live records wait until the missed ones are written: order, and no record twice.",
        _GATEWAY + "connection.py",
        "node.registry.add(self, held=resumes)",
        "node.registry.add(self, held=False)",
        _UNIT + "test_resumes.py::test_a_client_ahead_of_this_node_gets_nothing_twice"
        "_and_is_live_once_the_node_has_come_as_far",
    ),
    Mutant(
        "never-live-again",
        "After the replay a client takes part.",
        _GATEWAY + "connection.py",
        "            self._node.registry.release(self)\n",
        "",
        _UNIT + "test_resumes.py::test_a_resume_is_welcomed_with_its_own_cursor_gets_what_it_missed_and_is_live",
    ),
    Mutant(
        "ping-inside-an-event-stream",
        "An event stream whose cursor is being checked gets a comment, which it can read.",
        _GATEWAY + "connection.py",
        'return sse_chunk(b":\\n\\n") if self.encoding == Encoding.SSE else ping_frame()',
        "return ping_frame()",
        _UNIT
        + "test_resumes.py::test_while_the_brokers_are_asked_a_client_gets_a_sign_of_life_in_its_own_protocol[/sse]",
    ),
    Mutant(
        "those-who-wait-are-forgotten",
        "Who waits for the node to come as far is served when it has.",
        _GATEWAY + "resumes.py",
        "            self._ready.extend(self._waiting)\n",
        "",
        _UNIT + "test_resumes.py::test_a_client_ahead_of_this_node_gets_nothing_twice"
        "_and_is_live_once_the_node_has_come_as_far",
    ),
    Mutant(
        "checkpoint-of-the-node",
        "A checkpoint is never above what the client was given.",
        _GATEWAY + "connection.py",
        "return heartbeat(self.encoding, self._node.router.log, self.replay.positions)",
        "return self._node.heartbeat(self.encoding)",
        _UNIT + "test_resumes.py::test_a_checkpoint_while_it_waits_is_its_own_cursor",
    ),
    Mutant(
        "event-id-of-the-node",
        "The id of a replayed event is the client's cursor, not the node's.",
        _GATEWAY + "resumes.py",
        "                router.log,\n                replay.positions,",
        "                router.log,\n                router.positions,",
        _UNIT + "test_resumes.py::test_server_sent_events_resume_by_the_id_of_the_last_one",
    ),
    Mutant(
        "cursor-not-replaced-by-at",
        "A frame's `at` is the next offset: the record itself does not come again.",
        _GATEWAY + "resumes.py",
        'f"{partition}:{offset + 1}",',
        'f"{partition}:{offset}",',
        _UNIT + "test_resumes.py::test_a_resume_is_welcomed_with_its_own_cursor_gets_what_it_missed_and_is_live",
    ),
    # ---- Cursors that lead nowhere
    Mutant(
        "any-log-will-do",
        "A cursor of another log is refused as `log_changed`.",
        _GATEWAY + "resumes.py",
        "            tag == router.log\n            and not",
        "            True\n            and not",
        _UNIT + "test_resumes.py::test_a_refused_cursor_is_told_why",
    ),
    Mutant(
        "ahead-is-believed",
        "A cursor ahead of the broker's end is refused as `ahead`.",
        _GATEWAY + "resumes.py",
        '                return "ahead"\n',
        "                break\n",
        _UNIT + "test_resumes.py::test_a_refused_cursor_is_told_why",
    ),
    Mutant(
        "expired-in-silence",
        "A cursor older than the log is refused as `expired`.",
        _GATEWAY + "resumes.py",
        '                return "expired"\n',
        "                return None\n",
        _UNIT + "test_resumes.py::test_a_refused_cursor_is_told_why",
    ),
    Mutant(
        "partition-not-looked-up",
        "A partition that the node does not know yet is looked up before the cursor is refused.",
        _GATEWAY + "resumes.py",
        "        if not positions.keys() <= router.positions.keys():\n            await topic.find_partitions()\n",
        "        if not positions.keys() <= router.positions.keys():\n",
        "tests/mutants/test_guarantees.py::test_a_partition_that_the_node_does_not_know_is_looked_up",
    ),
    Mutant(
        "damaged-cursor-accepted",
        "A damaged cursor is refused as `invalid`.",
        _GATEWAY + "cursor.py",
        '            raise InvalidCursor("a partition stands twice")',
        "            pass",
        _UNIT + "test_cursor.py::test_a_damaged_cursor_is_refused",
    ),
    Mutant(
        "jump-in-silence",
        "Who is connected when retention passes the node by is told.",
        _GATEWAY + "consumer.py",
        '            self._node.resync_all("expired" if position > offset else "ahead")\n',
        "",
        "tests/chaos/test_log.py::test_retention_passes_a_stopped_node_by",
    ),
    Mutant(
        "new-topic-in-silence",
        "Who is connected when the topic is made anew is told.",
        _GATEWAY + "app.py",
        '        self.node.resync_all("log_changed")\n',
        "",
        "tests/chaos/test_log.py::test_the_topic_deleted_and_made_anew",
    ),
    Mutant(
        "another-topic-believed",
        "Records of another topic of the same name are not delivered as those of the old one.",
        _KAFKA + "source.py",
        "        self._doubted.add(partition)\n",
        "",
        "tests/integration/test_source_positions.py::test_records_of_another_topic_of_the_same_name_are_not_believed",
    ),
    Mutant(
        "topic-id-asked-once",
        "The topic's id is asked again after a reconnect.",
        _GATEWAY + "log_watch.py",
        "return self._checked_at_reconnects != self._reconnects()",
        "return False",
        _UNIT + "test_log_watch.py::test_what_was_asked_before_an_outage_does_not_hold_after_it",
    ),
    # ---- Repeats
    Mutant(
        "repeats-after-nineteen-thousand",
        "An id is known for 20,000 records.",
        _GATEWAY + "repeats.py",
        "REPEAT_RECORDS = 20_000",
        "REPEAT_RECORDS = 19_000",
        "tests/mutants/test_guarantees.py::test_the_reach_of_an_id_is_the_contract_s",
    ),
    Mutant(
        "repeats-after-nine-minutes",
        "An id is known for ten minutes.",
        _GATEWAY + "repeats.py",
        "REPEAT_SECONDS = 600.0",
        "REPEAT_SECONDS = 540.0",
        "tests/mutants/test_guarantees.py::test_the_reach_of_an_id_is_the_contract_s",
    ),
    Mutant(
        "repeats-unknown-after-a-start",
        "A node knows the ids of before its start.",
        _GATEWAY + "app.py",
        "            history={topics.modifications: _HISTORY},\n",
        "            history={topics.modifications: History(age_s=0, offsets=0)},\n",
        "tests/chaos/test_resumes.py::test_the_same_id_before_after_and_across_a_resume[window]",
    ),
    Mutant(
        "repeats-read-back",
        "What is read back leaves out the repeats that the node knows.",
        _GATEWAY + "readback.py",
        "known.was_repeat(record.offset) if lane.repeats is None else _is_repeat(lane.repeats, record)",
        "False",
        _UNIT + "test_readback.py::test_a_repeat_that_the_node_knows_of_is_left_out",
    ),
    Mutant(
        "read-back-past-the-node",
        "Nothing is read back that the node has not looked at for repeats.",
        _GATEWAY + "readback.py",
        "next_offset = min(next_offset, self._position_of(lane.partition.partition))",
        "next_offset = max(next_offset, 0)",
        _UNIT + "test_readback.py::test_nothing_is_read_that_the_node_has_not_looked_at_for_repeats",
    ),
    Mutant(
        "read-back-without-earlier-ids",
        "A repeat of a record from before the range that is read back is left out.",
        _GATEWAY + "readback.py",
        "                if record.offset < lane.next:\n                    _is_repeat(lane.repeats, record)",
        "                pass",
        _UNIT
        + "test_readback.py::test_a_repeat_of_a_record_before_the_range_is_left_out_also_if_the_node_was_not_there",
    ),
    Mutant(
        "ids-forgotten-when-out-of-reach",
        "An id is still known when a broker's clock jumped ahead and came back.",
        _GATEWAY + "repeats.py",
        "oldest_ms = timestamp_ms - _FORGET_MS",
        "oldest_ms = timestamp_ms - int(REPEAT_SECONDS * 1000)",
        _UNIT + "test_repeats.py::test_a_broker_s_clock_that_jumps_ahead_and_comes_back_hides_no_repeat",
    ),
    Mutant(
        "history-by-the-node's-clock",
        "A node whose own clock is wrong still knows the ids of before its start.",
        _KAFKA + "source.py",
        "time.time() * 1000 if newest is None else newest",
        "time.time() * 1000",
        "tests/integration/test_source_positions.py::test_a_topic_with_a_history_is_read_from_before_its_end",
    ),
    # ---- Reading back, bounded
    Mutant(
        "read-back-over-a-cut",
        "What the log does not hold any more is `expired`, not left out.",
        _GATEWAY + "readback.py",
        "        if offset < lane.oldest:\n            raise Expired\n",
        "",
        _UNIT + "test_readback.py::test_what_the_log_does_not_hold_any_more_is_expired",
    ),
    Mutant(
        "read-back-not-shared",
        "Clients that need the same range share its reads.",
        _GATEWAY + "readback.py",
        "lane = lanes[0] if lanes else await self._new_lane(partition, offset)",
        "lane = await self._new_lane(partition, offset)",
        _UNIT + "test_readback.py::test_those_who_need_the_same_range_share_its_reads",
    ),
    Mutant(
        "read-back-all-at-once",
        "Reads at once are bounded.",
        _GATEWAY + "readback.py",
        "self._reads = asyncio.Semaphore(max_reads)",
        "self._reads = asyncio.Semaphore(max_reads * 100)",
        _UNIT + "test_readback.py::test_no_more_reads_at_once_than_allowed",
    ),
    Mutant(
        "read-back-kept-for-ever",
        "What was read back is bounded in memory.",
        _GATEWAY + "readback.py",
        "            self._shed(segment)\n",
        "",
        _UNIT + "test_readback.py::test_what_is_kept_for_others_is_bounded",
    ),
    Mutant(
        "read-back-without-budget",
        "One that asks for the oldest record for ever gets a bounded share of the work.",
        _GATEWAY + "resumes.py",
        "        budget.spend(replay.older_bytes, started)\n",
        "",
        "tests/integration/test_resume.py::test_one_that_asks_for_the_oldest_record_for_ever_gets_a_bounded_share_of_the_log",
    ),
    Mutant(
        "read-uncommitted",
        "Records of aborted transactions reach nobody.",
        _KAFKA + "batches.py",
        "        if batch.is_transactional and producer_id in aborting:",
        "        if batch.is_transactional and producer_id in ():",
        "tests/unit/kafka/test_batches.py::test_nothing_of_an_aborted_transaction_is_seen_and_all_of_a_committed_one",
    ),
    # ---- Storms, slow clients, drains
    Mutant(
        "storm-let-in",
        "A storm of resumes is admitted at a bounded rate.",
        _GATEWAY + "admission.py",
        "if limits.per_s and (spread_s := self._storm.admit(now)) is not None:",
        "if False and (spread_s := self._storm.admit(now)) is not None:",
        _UNIT + "test_resumes.py::test_a_storm_of_resumes_is_let_in_at_a_rate_and_the_rest_told_when_to_come",
    ),
    Mutant(
        "storm-without-jitter",
        "Those who were turned away together do not come back together.",
        _GATEWAY + "allowance.py",
        "        return -self._turned_away.left(now) / self._rate",
        "        return 0.0",
        _UNIT + "test_allowance.py::test_a_storm_comes_in_at_the_rate_and_the_rest_is_spread_over_the_time_it_needs",
    ),
    Mutant(
        "resume-loop-let-in",
        "A client that resumes in a loop is told to wait.",
        _GATEWAY + "admission.py",
        "if not allowance.take(1, now):",
        "if allowance.wait_s(1, now) > 1e9:",
        _UNIT + "test_resumes.py::test_a_client_that_resumes_in_a_loop_is_told_to_wait_and_others_are_not",
    ),
    Mutant(
        "slow-kept-in-memory",
        "A slow client that can resume waits as a position in the window.",
        _GATEWAY + "connection.py",
        "            self._node.registry.hold(self)\n",
        "",
        _UNIT + "test_resumes.py::test_a_slow_client_that_can_resume_becomes_a_position_in_the_window",
    ),
    Mutant(
        "slow-never-closed",
        "One that takes nothing is closed with 4008.",
        _GATEWAY + "connection.py",
        '            self.give_up("slow", "no progress")',
        "            pass",
        "tests/chaos/test_resumes.py::test_slow_clients_get_4008_and_the_rest_by_resuming[window]",
    ),
    Mutant(
        "long-replay-in-one-piece",
        "A resume with very much missed is streamed under backpressure.",
        _GATEWAY + "resumes.py",
        "if replay is None or replay.reading or not connection.takes_bytes:",
        "if replay is None or replay.reading:",
        "tests/mutants/test_guarantees.py::test_a_replay_waits_for_its_socket_and_takes_no_memory_of_its_own",
    ),
    Mutant(
        "drain-all-at-once",
        "A drain tells clients in waves.",
        _GATEWAY + "drain.py",
        "count = max(1, min(connections, int(drain_s * 0.8 / WAVE_S)))",
        "count = 1",
        "tests/mutants/test_guarantees.py::test_a_drain_is_spread_over_its_time",
    ),
    Mutant(
        "drain-without-a-word",
        "A client is told `$drain` before the close.",
        _GATEWAY + "connection.py",
        "native.drain(0)",
        "native.error('drain')",
        _UNIT + "test_connection.py::test_a_v1_client_is_told_to_drain_before_the_close",
    ),
    # ---- The recorder, which all of tests/chaos rests on
    Mutant(
        "recorder-sees-no-loss",
        "A loss is found.",
        "tests/chaos/recorder.py",
        "if offset >= start and offset not in got and (end is None or offset <= end):",
        "if offset >= start and offset not in got and end is not None and offset <= end:",
        "tests/chaos/test_recorder.py::test_a_loss_is_found",
    ),
    Mutant(
        "recorder-sees-no-repeat",
        "A repeat is found.",
        "tests/chaos/recorder.py",
        "        got.add(place.offset)\n",
        "",
        "tests/chaos/test_recorder.py::test_a_repeat_is_found",
    ),
    Mutant(
        "recorder-sees-no-swap",
        "A swap is found.",
        "tests/chaos/recorder.py",
        "        if place.offset < last:\n",
        "        if place.offset < 0:\n",
        "tests/chaos/test_recorder.py::test_a_swap_is_found_and_is_no_loss",
    ),
    Mutant(
        "recorder-sees-no-stranger",
        "A stranger is found.",
        "tests/chaos/recorder.py",
        "if self._seen.user not in self._truth.receivers(number):",
        "if not self._truth.receivers(number):",
        "tests/chaos/test_recorder.py::test_a_stranger_is_found",
    ),
)
