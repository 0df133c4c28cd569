"""Our fetch codec and aiokafka's schemas agree byte for byte and field for field."""

import struct
from io import BytesIO
from typing import Any

import pytest
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.fetch import FetchRequest_v10, FetchResponse_v10
from hypothesis import given
from hypothesis import strategies as st

from tidings.kafka.fetch_codec import FetchAnswer, FetchQuestion
from tidings.kafka.fetch_session import FetchSession, Partition

int16 = st.integers(-(2**15), 2**15 - 1)
int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
names = st.text(max_size=20)

asked = st.tuples(int32, int32, int64, int64, int32)
questions = st.tuples(
    int32,
    int32,
    int32,
    int32,
    st.integers(-128, 127),
    int32,
    int32,
    st.lists(st.tuples(names, st.lists(asked, max_size=4)), max_size=3),
    st.lists(st.tuples(names, st.lists(int32, max_size=4)), max_size=3),
)
partitions = st.tuples(
    int32, int16, int64, int64, int64, st.lists(st.tuples(int64, int64), max_size=3), st.binary(max_size=50)
)
topics = st.lists(st.tuples(names, st.lists(partitions, max_size=4)), max_size=3)


@given(questions)
def test_a_question_is_what_aiokafka_would_send(fields: tuple[Any, ...]) -> None:
    assert FetchQuestion(*fields).encode() == FetchRequest_v10(*fields).encode()


@given(int32, int16, int32, topics, st.binary(max_size=8))
def test_an_answer_is_what_aiokafka_would_read(
    throttle: int, error: int, session: int, topics: list[Any], before: bytes
) -> None:
    encoded = FetchResponse_v10(throttle, error, session, topics).encode()
    stream = BytesIO(before + encoded)
    stream.seek(len(before))
    answer = FetchAnswer.decode(stream)
    assert (answer.error_code, answer.session_id) == (error, session)
    assert answer.topics == [(topic, [tuple(partition) for partition in found]) for topic, found in topics]


def test_no_list_of_aborted_transactions_and_no_records_are_empty_ones() -> None:
    encoded = FetchResponse_v10(0, 0, 7, [("t", [(0, 0, 5, 5, 0, None, None)])]).encode()
    assert FetchAnswer.decode(encoded).topics == [("t", [(0, 0, 5, 5, 0, [], b"")])]


def test_an_answer_cut_short_is_refused() -> None:
    encoded = FetchResponse_v10(0, 0, 7, [("t", [(0, 0, 5, 5, 0, [], b"0123456789")])]).encode()
    for length in range(len(encoded)):
        with pytest.raises((ValueError, struct.error)):
            FetchAnswer.decode(encoded[:length])


@pytest.mark.parametrize(("newest", "spoken"), [(17, 10), (10, 10), (8, 8)])
def test_a_fetch_is_of_a_version_that_only_the_leader_answers(newest: int, spoken: int) -> None:
    request = FetchSession().request([Partition("t", 0)], {Partition("t", 0): 5})
    assert spoken == request.prepare({1: (4, newest)}).API_VERSION


def test_a_broker_without_fetch_sessions_or_of_which_any_replica_answers_is_refused() -> None:
    for versions in ({1: (0, 6)}, {1: (11, 30)}, {}):
        with pytest.raises(IncompatibleBrokerVersion):
            FetchSession().request([Partition("t", 0)], {Partition("t", 0): 5}).prepare(versions)
