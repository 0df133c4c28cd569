"""The table of all metrics: name, kind, labels, meaning, and what to do when one shows a loss or a delay.

docs/metrics.md is generated from here. A name that is not in one of the three `Literal`s fails the type check.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

__all__ = ["SPECS", "CounterName", "GaugeName", "HistogramName", "MetricName", "Spec"]

CounterName = Literal[
    "tidings_gateway_records_total",
    "tidings_gateway_deliveries_total",
    "tidings_gateway_sent_bytes_total",
    "tidings_gateway_drops_total",
    "tidings_gateway_closes_total",
    "tidings_gateway_refused_total",
    "tidings_gateway_resumes_total",
    "tidings_gateway_window_lookups_total",
    "tidings_gateway_replayed_total",
    "tidings_gateway_gathered_total",
    "tidings_gateway_held_back_total",
    "tidings_gateway_readback_bytes_total",
    "tidings_gateway_client_frames_total",
    "tidings_gateway_skipped_batches_total",
    "tidings_jwks_fetches_total",
    "tidings_messaging_requests_total",
    "tidings_messaging_refused_total",
    "tidings_messaging_signals_dropped_total",
    "tidings_messaging_batches_total",
    "tidings_messaging_batched_total",
    "tidings_messaging_written_alone_total",
    "tidings_relay_records_total",
    "tidings_relay_failures_total",
    "tidings_dead_letters_total",
]
GaugeName = Literal[
    "tidings_gateway_connections",
    "tidings_gateway_handshakes_pending",
    "tidings_gateway_ready",
    "tidings_gateway_kafka_up",
    "tidings_gateway_lag_records",
    "tidings_gateway_unsent_bytes",
    "tidings_gateway_window_bytes",
    "tidings_gateway_window_seconds",
    "tidings_gateway_held_connections",
    "tidings_gateway_readback_cache_bytes",
    "tidings_gateway_readbacks_pending",
    "tidings_messaging_ready",
    "tidings_messaging_postgres_up",
    "tidings_messaging_kafka_up",
    "tidings_messaging_connections",
    "tidings_messaging_pool_connections",
    "tidings_messaging_batch_waiting",
    "tidings_outbox_pending",
    "tidings_outbox_oldest_seconds",
    "tidings_relay_shards",
    "tidings_presence_online_users",
]
HistogramName = Literal[
    "tidings_gateway_delivery_seconds",
    "tidings_gateway_encode_seconds",
    "tidings_gateway_flush_seconds",
    "tidings_gateway_loop_delay_seconds",
    "tidings_gateway_resume_seconds",
    "tidings_messaging_request_seconds",
]
MetricName = Literal[CounterName, GaugeName, HistogramName]

_LATENCY: Final = (
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    300,
)
_WORK: Final = (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
_TINY: Final = (0.000001, 0.000003, 0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01)


@dataclass(frozen=True)
class Spec:
    """What one metric means.

    Attributes:
        name: As in a query.
        help: One sentence; which values a label takes, where that is a closed set.
        labels: In the order of `Metrics.on_scrape` keys.
        buckets: Upper bounds in seconds, of a histogram.
        runbook: What to look at or do when it shows that something is lost or late; empty for the others.
    """

    name: MetricName
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    runbook: str = ""

    @property
    def kind(self) -> Literal["counter", "gauge", "histogram"]:
        """The Prometheus type."""
        if self.name in get_args(CounterName):
            return "counter"
        return "histogram" if self.name in get_args(HistogramName) else "gauge"


_TABLE: Final = (
    Spec("tidings_gateway_connections", "Open connections by protocol.", ("protocol",)),
    Spec(
        "tidings_gateway_records_total",
        "Records read, by outcome: routed (someone here got it), unheard (nobody here), repeat (known id), poison,"
        " null, control ($ signals), control_invalid ($disconnect whose data is no order: nobody was disconnected),"
        " warmed (of before the start, only remembered).",
        ("outcome",),
        runbook="A rising `poison`: the log names topic, partition, offset and reason; find the producer and mend it."
        " `repeat` rises for a moment after a producer's retries; for long it means two producers share ids.",
    ),
    Spec(
        "tidings_gateway_deliveries_total",
        "Frames of records given to connections, by protocol: written at once or, to blocked ones, kept in their"
        " backlogs; those dropped later are counted, too.",
        ("protocol",),
        runbook="Falls to 0 while records are routed: see `tidings_gateway_connections` and the load balancer.",
    ),
    Spec(
        "tidings_gateway_sent_bytes_total",
        "Bytes of frames of records given to connections, also of those dropped later; no pings, control frames and"
        " heads of answers.",
    ),
    Spec(
        "tidings_gateway_drops_total",
        "Frames that were meant for a connection and not written, by reason.",
        ("reason",),
        runbook="Frames went with connections that were closed as slow or died; clients that resume get them again."
        " If all nodes show it: look at the network or `tidings_gateway_loop_delay_seconds`; if one: restart it.",
    ),
    Spec(
        "tidings_gateway_closes_total",
        "Connections that ended, by the close code of whoever closed; 1005 without a code, 1006 without a close frame,"
        " `other` for codes that only clients use.",
        ("code",),
        runbook="4008: clients too slow for their traffic, or `TIDINGS_GATEWAY_MAX_UNSENT_TOTAL_BYTES` too small for"
        " the node. 1008: a client floods. 1011: a bug of ours, the log has the trace. 4001 in waves: the issuer is"
        " late with new tokens.",
    ),
    Spec(
        "tidings_gateway_refused_total",
        "Handshakes refused before the upgrade, by reason. `made_room`: silent for longest on a node whose sockets were"
        " all taken, and cut for another.",
        ("reason",),
        runbook="Token reasons after a deployment: keys or clocks differ between issuer and gateway. Full: add nodes"
        " or raise `TIDINGS_GATEWAY_MAX_CONNECTIONS` and the file limit. `made_room`: somebody opens sockets and says"
        " nothing on them; bound connections per address at the load balancer.",
    ),
    Spec(
        "tidings_gateway_resumes_total",
        "Connections that came with a cursor, by outcome: window (missed records came from memory), readback (from"
        " Kafka), or why they had to refetch: expired, log_changed, invalid, ahead, budget.",
        ("outcome",),
        runbook="`budget`: clients are away longer than the window and the read-back reach: raise"
        " `TIDINGS_GATEWAY_WINDOW_BYTES` or `TIDINGS_GATEWAY_MAX_READBACK_BYTES`. `expired`: longer than the topic's"
        " retention. `log_changed`: the topic was made anew. `ahead`, `invalid`: a client mixes up clusters.",
    ),
    Spec(
        "tidings_gateway_window_lookups_total",
        "Cursors looked for in the replay window, by result: hit (all partitions) or miss.",
        ("result",),
    ),
    Spec("tidings_gateway_replayed_total", "Frames of missed records written to connections that resumed."),
    Spec(
        "tidings_gateway_gathered_total",
        "Frames that a busy node kept for the next batch, because they were alone for their connection.",
    ),
    Spec(
        "tidings_gateway_held_back_total",
        "Slow connections that got their next records from the window in place of a backlog.",
    ),
    Spec("tidings_gateway_readback_bytes_total", "Bytes read from Kafka for cursors older than the window."),
    Spec(
        "tidings_gateway_client_frames_total",
        "Frames from clients, by kind; plain mode never answers them.",
        ("kind",),
    ),
    Spec(
        "tidings_gateway_skipped_batches_total",
        "Batches that could not be decoded and were skipped whole, by reason (crc, codec, format).",
        ("reason",),
        runbook="Records are lost to clients here: the log names topic, partition and offsets. Check the broker's disk"
        " and the producer's codec; a damaged batch can be read from another replica with kcat.",
    ),
    Spec("tidings_gateway_handshakes_pending", "Connections that have not finished their handshake."),
    Spec(
        "tidings_gateway_ready",
        "1 while /readyz says ready.",
        runbook="0 for minutes after a start: Kafka away, a topic missing (`tidings topics check`), or no keys from the"
        " JWKS address.",
    ),
    Spec(
        "tidings_gateway_kafka_up",
        "1 while every partition has a leader and the last fetch from each was answered.",
        runbook="0: clients stay connected and get everything when Kafka is back. Check the brokers, then"
        " `TIDINGS_KAFKA_*`.",
    ),
    Spec(
        "tidings_gateway_lag_records",
        "Records of the modifications topic not yet routed, by partition.",
        ("partition",),
        runbook="Grows on all nodes: more records than one core decodes, add cores or workers. On one node: it is slow"
        " or cut off, restart it. On one partition: its leader.",
    ),
    Spec(
        "tidings_gateway_unsent_bytes",
        "Unsent bytes of all connections together.",
        runbook="Near `TIDINGS_GATEWAY_MAX_UNSENT_TOTAL_BYTES` the slowest are closed: network trouble, or a record"
        " for very many receivers.",
    ),
    Spec("tidings_gateway_window_bytes", "Bytes of records in the replay window."),
    Spec(
        "tidings_gateway_held_connections",
        "Connections to which nothing is routed yet, because they resume or are behind.",
        runbook="High for minutes: clients too slow for their traffic, or a node behind the others (lag).",
    ),
    Spec(
        "tidings_gateway_readback_cache_bytes",
        "Bytes of records read back that are kept for others who need them, and of ids of records before them.",
    ),
    Spec(
        "tidings_gateway_readbacks_pending",
        "Reads of older records under way.",
        runbook="At `TIDINGS_GATEWAY_MAX_READBACKS` for long: many clients were away longer than the window reaches;"
        " raise `TIDINGS_GATEWAY_WINDOW_BYTES`.",
    ),
    Spec(
        "tidings_gateway_window_seconds",
        "Seconds between the oldest and the newest record of the replay window.",
        runbook="Shorter than clients are away: their resumes read Kafka back; raise `TIDINGS_GATEWAY_WINDOW_BYTES`.",
    ),
    Spec(
        "tidings_gateway_delivery_seconds",
        "From the broker's timestamp of a record to the write of its frame to a socket; without what a frame that is"
        " alone for its connection waits on a busy node (see `tidings_gateway_gathered_total`).",
        buckets=_LATENCY,
        runbook="Late: compare with `tidings_gateway_lag_records` (reading), `tidings_gateway_loop_delay_seconds`"
        " (CPU), and the clocks of brokers and nodes (a constant shift).",
    ),
    Spec(
        "tidings_gateway_encode_seconds",
        "Routing one batch of records: decoding, repeated ids, the window, receivers, frames.",
        buckets=_TINY,
    ),
    Spec(
        "tidings_gateway_flush_seconds",
        "Writing one batch's frames to the sockets or, of blocked connections, to their backlogs.",
        buckets=_WORK,
    ),
    Spec(
        "tidings_gateway_loop_delay_seconds",
        "How much later than asked the event loop woke up.",
        buckets=_LATENCY,
        runbook="Over 0.1 s: the node has too little CPU for its connections; add nodes or workers.",
    ),
    Spec(
        "tidings_gateway_resume_seconds",
        "From a handshake with a good cursor to taking part, all missed records written.",
        buckets=_LATENCY,
    ),
    Spec(
        "tidings_jwks_fetches_total",
        "Fetches of the key set, by outcome: ok, connection, timeout, status, too_big, invalid.",
        ("outcome",),
        runbook="Without `ok` the last keys stay in use, so new keys are refused: check the address and the issuer.",
    ),
    Spec(
        "tidings_messaging_requests_total",
        "Requests answered, by status; 0: the client went away before.",
        ("status",),
        runbook="A rising share of 5xx: 503 is Postgres away or too slow (`tidings_messaging_postgres_up`), 500 a bug"
        " of ours, the log has the trace.",
    ),
    Spec(
        "tidings_messaging_refused_total",
        "Requests and connections refused by a limit, by the error type of the answer; `no_request`: none came.",
        ("reason",),
        runbook="One user over the rate: a client that loops. Many: raise `TIDINGS_MESSAGING_MAX_REQUESTS_PER_S`."
        " `too_many_connections`: add processes or raise `TIDINGS_MESSAGING_MAX_CONNECTIONS` and the file limit, unless"
        " `request_timeout` or `no_request` rise too: then somebody holds connections without asking, and the load"
        " balancer should not let them through."
        " `unavailable`: Postgres is slower than `TIDINGS_POSTGRES_*_TIMEOUT_S`, or the pool too small.",
    ),
    Spec(
        "tidings_messaging_signals_dropped_total",
        "Signals (typing) that never left: Kafka did not take them within 5 s, or too many waited.",
        runbook="Rises with every outage of Kafka and harms nobody. With Kafka up: the topic `signals` is missing"
        " (`tidings topics check`).",
    ),
    Spec(
        "tidings_messaging_batches_total",
        "Transactions that wrote the messages which came at the same time.",
        runbook="With the next one: `batched_total / batches_total` is how many messages share a transaction; about 1"
        " when there is little to do.",
    ),
    Spec("tidings_messaging_batched_total", "Messages in those transactions."),
    Spec(
        "tidings_messaging_written_alone_total",
        "Messages that could not be written with others: refused, sent before, or another holds their chat.",
        runbook="A large share of `tidings_messaging_batched_total`: clients repeat what was taken, or one chat is"
        " written to by several processes at once.",
    ),
    Spec(
        "tidings_messaging_batch_waiting",
        "Messages that wait for the transaction under way; at 2,000 the next is answered with 503.",
        runbook="Grows: Postgres is slow; see `tidings_messaging_request_seconds` and the server's disk.",
    ),
    Spec(
        "tidings_messaging_ready",
        "1 while /readyz says ready.",
        runbook="0 for minutes after a start: Postgres or Kafka away, a database not migrated (`tidings migrate`), or"
        " no keys from the JWKS address.",
    ),
    Spec(
        "tidings_messaging_postgres_up",
        "1 while Postgres answers.",
        runbook="0: every request is answered with 503. Check the server, then `TIDINGS_POSTGRES_*`.",
    ),
    Spec(
        "tidings_messaging_kafka_up",
        "1 while Kafka answers.",
        runbook="0: messages are taken and kept in the outbox; nobody hears of them before Kafka is back. Check the"
        " brokers, then `TIDINGS_KAFKA_*`.",
    ),
    Spec("tidings_messaging_connections", "Open connections of clients."),
    Spec(
        "tidings_messaging_pool_connections",
        "Connections to Postgres of the pool, by state: idle, used.",
        ("state",),
        runbook="`idle` at 0 for long: requests wait for a connection; raise `TIDINGS_POSTGRES_POOL_MAX` or add"
        " processes.",
    ),
    Spec(
        "tidings_messaging_request_seconds",
        "From a request's headers to the end of its answer.",
        buckets=_LATENCY,
        runbook="Late: see `tidings_messaging_pool_connections`, then the server's slow statements.",
    ),
    Spec(
        "tidings_outbox_pending",
        "Rows of the outbox that are not in Kafka yet.",
        runbook="Grows: the relay or Kafka stands still; see `tidings_outbox_oldest_seconds` and the relay's log.",
    ),
    Spec(
        "tidings_outbox_oldest_seconds",
        "Age of the oldest row of the outbox.",
        runbook="This is how late clients are at the least. Over 5 s: no owner of a shard, or Kafka refuses.",
    ),
    Spec("tidings_relay_records_total", "Records that the relay has in Kafka, acknowledged."),
    Spec(
        "tidings_relay_shards",
        "Shards of the outbox that this process relays; the sum over all processes is 4.",
        runbook="A sum below 4 for over 5 s: the processes can't reach Postgres with their lock sessions, or none"
        " runs.",
    ),
    Spec(
        "tidings_relay_failures_total",
        "Batches that had to begin again, by reason: kafka (no answer), postgres, fenced (another process has the"
        " shard), refused (the broker will not have a record), lock (the lock session was lost).",
        ("reason",),
        runbook="`refused`: the shard stands still until the topic's `max.message.bytes` is 4 MiB again; the log"
        " (relay_failed) names the shard. `kafka`: the outbox keeps everything; see the brokers. `lock` and `fenced` by"
        " and by: this process freezes, or Postgres ends its sessions.",
    ),
    Spec("tidings_presence_online_users", "Users with at least one session in the fleet."),
    Spec(
        "tidings_dead_letters_total",
        "Records given up on, by reason.",
        ("reason",),
        runbook="Read them from the dead letter topic (headers say from where and why), mend the producer, produce"
        " them again corrected.",
    ),
)

SPECS: Final[Mapping[MetricName, Spec]] = {spec.name: spec for spec in _TABLE}
"""Every metric, in the order of the reference page."""
