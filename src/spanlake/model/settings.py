"""The settings tree: every bound and choice of a running spanlake, one frozen dataclass per component.

This module owns names, defaults and the one-line meaning of each setting; `app/config.py` fills the tree from file, environment and
command line and checks ranges. Components receive their own branch and never read the environment.

Units are in the names: `_bytes`, `_seconds`, `_spans`. A field's meaning stands in its metadata, so that `spanlake config`, the
documentation test and `--help` share one text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

T = TypeVar("T")
MIB = 1 << 20


def setting(default: T, meaning: str, *, least: float | None = None, most: float | None = None) -> T:
    """A dataclass field with its meaning and, for numbers, the inclusive range that is accepted."""
    metadata: dict[str, Any] = {"meaning": meaning, "least": least, "most": most}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Listeners and what they accept."""

    host: str = setting("127.0.0.1", "address that every listener binds; loopback unless told otherwise")
    http_port: int = setting(3200, "query API, over HTTP and gRPC, and metrics; 0 picks a free port", least=0, most=65535)
    grpc_port: int = setting(9095, "query API over gRPC alone; 0 picks a free port", least=0, most=65535)
    otlp_grpc_port: int = setting(4317, "OTLP over gRPC; 0 picks a free port", least=0, most=65535)
    otlp_http_port: int = setting(4318, "OTLP over HTTP; 0 picks a free port", least=0, most=65535)
    http_api_prefix: str = setting("", "path below which the query API answers too, such as /tempo, for proxies that pass it on")
    multitenancy: bool = setting(False, "take the tenant from X-Scope-OrgID; off: every request is tenant single-tenant")
    request_bytes_max: int = setting(64 * MIB, "largest request body, before and after decompression", least=1024, most=1 << 30)
    receive_threads: int = setting(16, "threads that decode and log pushed payloads (requests in flight)", least=1, most=256)
    receive_queue_max: int = setting(64, "pushes per listener that wait for a receive thread; more get 429", least=0, most=10_000)
    receive_bytes_max: int = setting(256 * MIB, "memory for pushed bodies in flight; pushes above it get 429", least=1024)
    json_bytes_max: int = setting(16 * MIB, "largest OTLP/JSON body after decompression; parsing takes up to 30 times as much", least=1024)
    query_threads: int = setting(4, "threads that answer queries", least=1, most=64)
    query_queue_max: int = setting(1000, "queries that wait for a query thread; more get 429", least=0, most=10_000)
    query_queue_per_tenant_max: int = setting(400, "queries of one tenant that wait; more get 429", least=0, most=10_000)
    connections_max: int = setting(2000, "open connections per listener, HTTP and gRPC queries; more are refused", least=1, most=100_000)
    keep_alive_seconds: int = setting(75, "idle HTTP connections are closed after this", least=1, most=3600)
    header_bytes_max: int = setting(64 * 1024, "largest request line with headers", least=1024, most=1 << 20)
    header_seconds: float = setting(10.0, "a request whose headers take longer is dropped", least=0.05, most=600)
    body_seconds: float = setting(60.0, "a pushed body that takes longer to arrive is refused", least=0.05, most=3600)
    stall_seconds: float = setting(30.0, "a client that stops reading its answer or sends on after a refusal is dropped", least=0.05)
    drain_seconds: int = setting(10, "how long a stopping server waits for requests in flight", least=0, most=600)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Requests to the object store, by us and by the Delta library."""

    attempts_max: int = setting(5, "attempts of a request that fails for a passing reason; 1: never try again", least=1, most=100)
    backoff_first_seconds: float = setting(0.1, "pause before the second attempt; it doubles with each further one", least=0.001, most=60)
    backoff_max_seconds: float = setting(5.0, "longest pause between two attempts", least=0.001, most=600)
    timeout_seconds: float = setting(60.0, "longest time of one request to a remote store, with its whole body", least=0.01, most=3600)


@dataclass(frozen=True, slots=True)
class WalSettings:
    """The write-ahead log."""

    directory: str = setting("", "where the log lives; empty: <data>/wal for a local store, ./data/wal for an object store")
    fsync: Literal["always", "interval", "never"] = setting(
        "always", "when a payload counts as durable: after fsync, after write with a periodic fsync, or after write"
    )
    fsync_interval_seconds: float = setting(1.0, "pause between fsyncs with fsync: interval", least=0.01, most=60)


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """Acceptance limits and the rhythm of cuts."""

    live_bytes_max: int = setting(640 * MIB, "memory of live spans; above half of it a cut is made, at all of it pushes get 429", least=MIB)
    cut_spans: int = setting(1_000_000, "live spans that make a cut due", least=1)
    cut_interval_seconds: float = setting(60.0, "longest time between cuts while there are live spans", least=0.05)
    trace_idle_seconds: float = setting(5.0, "a trace with a span younger than this is carried over a cut, to stay whole", least=0)
    trace_age_seconds: float = setting(300.0, "a trace live for longer than this is cut even when it is not idle", least=0)
    tenants_max: int = setting(1000, "tenants that may have live spans at once; pushes of others get 429", least=1, most=100_000)
    value_depth_max: int = setting(30, "deepest nesting of arrays and maps in an attribute value", least=1, most=64)


@dataclass(frozen=True, slots=True)
class BlockSettings:
    """The shape of blocks."""

    row_group_spans: int = setting(16_384, "spans per row group; a trace is never split unless it alone is larger", least=64)
    block_bytes_max: int = setting(1 << 30, "blocks are not compacted beyond this size", least=MIB)
    columns_max: int = setting(300, "attribute columns per block; further attributes go to the overflow column", least=0, most=2000)
    table_columns_max: int = setting(1000, "attribute columns per table", least=0, most=5000)
    zstd_level: int = setting(1, "compression of flushed blocks", least=1, most=19)
    compacted_zstd_level: int = setting(3, "compression of compacted blocks", least=1, most=19)
    footer_cache_bytes: int = setting(256 * MIB, "memory for block footers and trace-id filters", least=MIB)


@dataclass(frozen=True, slots=True)
class CompactionSettings:
    """Background work on the table."""

    enabled: bool = setting(True, "compact, expire and delete in the background of this process")
    interval_seconds: float = setting(30.0, "pause between looks at the table", least=0.05)
    cpu_share: float = setting(0.5, "longest share of one core that compaction takes while pushes arrive", least=0.01, most=1)
    blocks_min: int = setting(4, "blocks of similar size that make a compaction worthwhile", least=2)
    retention_seconds: float = setting(14 * 86400.0, "spans older than this are removed; 0 keeps them for ever", least=0)
    delete_grace_seconds: float = setting(
        900.0, "a replaced file stays in storage this long, for queries that still read it", least=0, most=86_400
    )


@dataclass(frozen=True, slots=True)
class QuerySettings:
    """Bounds on answers."""

    trace_bytes_max: int = setting(64 * MIB, "largest trace-by-id answer; above it v1 fails and v2 is PARTIAL", least=1024)
    trace_diff_bytes_max: int = setting(8 * MIB, "largest two traces together that are compared", least=1024)
    timeout_seconds: float = setting(60.0, "a query that runs longer fails", least=0.1)
    threads: int = setting(2, "threads on which all searches evaluate pieces of blocks; 0: each query only on its own", least=0, most=256)
    range_seconds_max: float = setting(168 * 3600.0, "longest time range of a search; 0: any", least=0)
    horizon_seconds: float = setting(
        24 * 3600.0, "how far from the time range of a query further spans of its traces are looked for; 0: anywhere", least=0
    )
    metrics_range_seconds_max: float = setting(24 * 3600.0, "longest time range of a metrics query; 0: any", least=0)
    metrics_points_max: int = setting(10_000, "most steps in the range of a metrics query; more fail", least=1, most=1_000_000)
    metrics_series_max: int = setting(10_000, "most series in a metrics answer; with more it is PARTIAL, the last ones missing", least=1)
    metrics_samples_max: int = setting(1_000_000, "most steps times series in a metrics answer; it has fewer series, as above", least=1)
    metrics_exemplars_max: int = setting(100, "most exemplars in a metrics answer", least=0, most=10_000)
    metrics_bytes_max: int = setting(256 * MIB, "memory for the unfinished series of one metrics query; with more it is PARTIAL", least=MIB)
    answer_spans_max: int = setting(1_000_000, "most spans in the answer of a search; one with more fails", least=1)
    answer_bytes_max: int = setting(512 * MIB, "memory that the answer of a search may take; one that needs more fails", least=1024)
    tag_values_bytes_max: int = setting(MIB, "size of the names or values of tags at which a list of them is cut", least=1024)
    cache_bytes: int = setting(256 * MIB, "memory for what searches remember of blocks: trace ids, dictionaries", least=MIB)
    catalog_refresh_seconds: float = setting(5.0, "how stale the view of blocks written by other processes may be", least=0)


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Limits of each tenant, unless its overrides say otherwise. Those of ingest and queries are per process."""

    ingest_bytes_per_second: float = setting(0.0, "pushed bytes per second, after decompression; more get 429; 0: any", least=0)
    ingest_burst_bytes: int = setting(64 * MIB, "pushed bytes that may come at once; one push above it gets 413", least=1024)
    trace_spans_max: int = setting(0, "spans of one trace; those beyond are refused and counted; 0: any", least=0)
    attribute_bytes_max: int = setting(0, "longest attribute key or text value; the rest of it is cut off; 0: any length", least=0)
    live_bytes_max: int = setting(
        0, "memory of the tenant's live spans; pushes above it get 429 until a cut; 0: ingest.live_bytes_max", least=0
    )
    query_concurrency_max: int = setting(0, "queries of the tenant that run at once; others wait; 0: as many as there are threads", least=0)


@dataclass(frozen=True, slots=True)
class OverrideSettings:
    """Where the limits of single tenants come from."""

    file: str = setting("", "YAML or JSON file with limits by tenant, read again when it changes; empty: none")
    api: bool = setting(False, "let /api/overrides change limits of tenants, which are kept in the store; reading them is always allowed")
    reload_seconds: float = setting(10.0, "pause between looks at the file and at the stored limits", least=0.05, most=3600)


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may do what."""

    file: str = setting("", "YAML or JSON file with tokens and passwords, their tenants and roles; empty: anybody may do anything")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Encryption on every port; off unless both files are given."""

    certificate_file: str = setting("", "the server's certificate, PEM, followed by those of intermediate authorities")
    key_file: str = setting("", "the certificate's private key, PEM, without a passphrase")
    client_ca_file: str = setting("", "authorities, PEM, one of which must have signed a client's certificate; empty: clients need none")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Logs of the server itself, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = setting("info", "least severe level that is written")
    format: Literal["text", "json"] = setting("text", "one line of text, or one JSON object, per entry")


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole tree."""

    data: str = setting("./data", "directory or s3://, gs://, az:// URL of the store")
    server: ServerSettings = field(default_factory=ServerSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    wal: WalSettings = field(default_factory=WalSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    blocks: BlockSettings = field(default_factory=BlockSettings)
    compaction: CompactionSettings = field(default_factory=CompactionSettings)
    query: QuerySettings = field(default_factory=QuerySettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    overrides: OverrideSettings = field(default_factory=OverrideSettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    log: LogSettings = field(default_factory=LogSettings)
    retention_by_tenant: dict[str, float] = field(
        default_factory=dict,
        metadata={"meaning": "retention per tenant, instead of compaction.retention_seconds", "unit": "seconds", "least": 0},
    )
