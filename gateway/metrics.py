"""What an operator can measure, in the Prometheus form. The only file that knows prometheus_client.

Several processes on one host share their figures when PROMETHEUS_MULTIPROC_DIR names a folder before this module is
imported. Labels are words from fixed lists, never UIDs, names or addresses.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

disable_created_metrics()  # type: ignore[no-untyped-call]
_REGISTRY = CollectorRegistry(auto_describe=False)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_instances_stored = Counter(
    "gateway_instances_stored",
    "Instances that a caller sent, by door and what became of them (new, same, version, failed).",
    ("door", "outcome"),
    registry=_REGISTRY,
)
_stored_bytes = Counter(
    "gateway_stored_bytes", "Bytes of the instances stored, by door.", ("door",), registry=_REGISTRY
)
_act_seconds = Histogram(
    "gateway_act_seconds",
    "Time that the archive took, until the answer began, by act, door and outcome (done, refused, failed).",
    ("act", "door", "outcome"),
    buckets=_SECONDS,
    registry=_REGISTRY,
)
_associations_open = Gauge(
    "gateway_associations_open", "Associations open now.", multiprocess_mode="livesum", registry=_REGISTRY
)
_associations = Counter(
    "gateway_associations", "Associations requested, accepted or rejected.", ("result",), registry=_REGISTRY
)
_responses = Counter(
    "gateway_http_responses", "HTTP responses by resource and status.", ("resource", "status"), registry=_REGISTRY
)
_response_seconds = Histogram(
    "gateway_http_response_seconds",
    "Time from the request to the last byte of the response, by resource.",
    ("resource",),
    buckets=_SECONDS,
    registry=_REGISTRY,
)
_audit_failures = Counter("gateway_audit_failures", "Audit events that could not be written.", registry=_REGISTRY)
_loose = Gauge(
    "gateway_loose",
    "What waits in the spool to be sealed, by unit (series, instances, bytes).",
    ("unit",),
    multiprocess_mode="mostrecent",
    registry=_REGISTRY,
)
_loose_seconds = Gauge(
    "gateway_loose_seconds",
    "Time since an instance last came for the series that has waited longest to be sealed.",
    multiprocess_mode="mostrecent",
    registry=_REGISTRY,
)
_packs = Counter(
    "gateway_packs",
    "Packs written, by what was done (sealed, compacted, merged, copied).",
    ("act",),
    registry=_REGISTRY,
)
_packed_instances = Counter(
    "gateway_packed_instances", "Instances in the packs written, by what was done.", ("act",), registry=_REGISTRY
)
_packed_bytes = Counter(
    "gateway_packed_bytes", "Bytes of the packs written, by what was done.", ("act",), registry=_REGISTRY
)
_upkeep_failures = Counter(
    "gateway_upkeep_failures",
    "Attempts of the workers that failed and are made again, by act (seal, compact, merge, copy, sweep, delete).",
    ("act",),
    registry=_REGISTRY,
)
_damaged_loose = Gauge(
    "gateway_damaged_loose_objects",
    "Loose objects that are not what was stored, or lost, as far as they were to be sealed.",
    multiprocess_mode="mostrecent",
    registry=_REGISTRY,
)
_upkeep_stalled = Gauge(
    "gateway_upkeep_stalled",
    "1 while a worker gets nowhere (an object store or the index does not answer), by act.",
    ("act",),
    multiprocess_mode="mostrecent",
    registry=_REGISTRY,
)
_doomed_waiting = Gauge(
    "gateway_doomed_objects",
    "Objects that are due to be deleted and are not yet, by store; of the 100,000 that have waited longest.",
    ["store"],
    multiprocess_mode="mostrecent",
    registry=_REGISTRY,
)
_doomed_late = Gauge(
    "gateway_doomed_seconds",
    "Time since the first of them was to be deleted, by store; 0: none waits.",
    ["store"],
    multiprocess_mode="mostrecent",
    registry=_REGISTRY,
)
_swept = Counter("gateway_swept_objects", "Objects deleted that nothing names any more.", registry=_REGISTRY)
_copy_lag = Gauge(
    "gateway_copy_lag_seconds",
    "Time since the oldest instance came that is sealed and not yet in the copy; 0: all are.",
    multiprocess_mode="mostrecent",
    registry=_REGISTRY,
)
_copy_reads = Counter(
    "gateway_copy_reads",
    "Objects read from the copy, because the archive is away, lacks them or gives them damaged.",
    registry=_REGISTRY,
)
_journal_seconds = Gauge(
    "gateway_journal_seconds",
    "Time since the write-ahead log of the SQLite index was emptied: what was deleted since may still be in it.",
    multiprocess_mode="mostrecent",
    registry=_REGISTRY,
)
_cache_looks = Counter(
    "gateway_cache_looks",
    "Blocks of packs in a bucket that were looked for in the cache, by what was found (hit, miss).",
    ("result",),
    registry=_REGISTRY,
)
_bucket_requests = Counter(
    "gateway_bucket_requests",
    "Requests to buckets, by store (spool, archive, copy), operation and outcome (ok, refused, error, unanswered).",
    ("store", "operation", "outcome"),
    registry=_REGISTRY,
)
_bucket_bytes = Counter(
    "gateway_bucket_bytes",
    "Bytes of objects and lists to and from buckets, by store and direction (sent, received).",
    ("store", "direction"),
    registry=_REGISTRY,
)


def stored(door: str, outcome: str, length: int) -> None:
    """An instance of `length` bytes came through `door`; `outcome` is new, same, version or failed."""
    _instances_stored.labels(door, outcome).inc()
    if outcome != "failed":
        _stored_bytes.labels(door).inc(length)


def acted(act: str, door: str, outcome: str, seconds: float) -> None:
    """The archive did `act`; `outcome` is done, refused (the caller's fault) or failed (ours)."""
    _act_seconds.labels(act, door, outcome).observe(seconds)


def association_opened() -> None:
    """An association was accepted."""
    _associations.labels("accepted").inc()
    _associations_open.inc()


def association_closed() -> None:
    """An accepted association ended, however it did."""
    _associations_open.dec()


def association_rejected() -> None:
    """An association was refused."""
    _associations.labels("rejected").inc()


def responded(resource: str, status: int, seconds: float) -> None:
    """An HTTP response ended; `resource` is a word from a fixed list ("studies", "frames"), never a path."""
    _responses.labels(resource, str(status)).inc()
    _response_seconds.labels(resource).observe(seconds)


def copy_read() -> None:
    """An object was read from the copy."""
    _copy_reads.inc()


def audit_failed() -> None:
    """An audit event could not be written."""
    _audit_failures.inc()


def waiting(series: int, instances: int, length: int, oldest_seconds: float) -> None:
    """So much lies loose now."""
    for unit, count in (("series", series), ("instances", instances), ("bytes", length)):
        _loose.labels(unit).set(count)
    _loose_seconds.set(oldest_seconds)


def packed(act: str, instances: int, length: int) -> None:
    """A pack was sealed, compacted, merged or copied (`act`)."""
    _packs.labels(act).inc()
    _packed_instances.labels(act).inc(instances)
    _packed_bytes.labels(act).inc(length)


def upkeep_failed(act: str) -> None:
    """A worker could not seal, compact, merge, copy, sweep or delete (`act`) something; it will try again."""
    _upkeep_failures.labels(act).inc()


def damaged_loose(objects: int) -> None:
    """So many loose objects cannot be sealed, because they are not what was stored."""
    _damaged_loose.set(objects)


def upkeep_stalled(act: str, stalled: bool) -> None:
    """A worker gets nowhere, or goes on again."""
    _upkeep_stalled.labels(act).set(stalled)


def swept(objects: int) -> None:
    """Doomed objects were deleted."""
    _swept.inc(objects)


def doomed(store: str, objects: int, seconds: float) -> None:
    """So many are due in a store and not deleted yet, the first of them for so long."""
    _doomed_waiting.labels(store).set(objects)
    _doomed_late.labels(store).set(seconds)


def copy_lag(seconds: float) -> None:
    """So long ago came the oldest instance that is sealed and not yet in the copy."""
    _copy_lag.set(seconds)


def journal_kept(seconds: float) -> None:
    """So long ago the journal of the index was emptied."""
    _journal_seconds.set(seconds)


def cache_looked(hit: bool) -> None:
    """A block was looked for in the cache."""
    _cache_looks.labels("hit" if hit else "miss").inc()


def bucket_asked(store: str, operation: str, outcome: str) -> None:
    """A request was sent to the bucket of `store`; see `storage.objects.s3_tally`."""
    _bucket_requests.labels(store, operation, outcome).inc()


def bucket_moved(store: str, direction: str, length: int) -> None:
    """Bytes were sent to the bucket of `store`, or received from it."""
    _bucket_bytes.labels(store, direction).inc(length)


def process_ended(pid: int) -> None:
    """A process that shared these figures is gone: what it had open no longer counts."""
    if _shared_folder():
        mark_process_dead(pid)  # type: ignore[no-untyped-call]


def render() -> bytes:
    """All figures in the text form of Prometheus (`CONTENT_TYPE`), of all processes when they share a folder."""
    registry = _REGISTRY
    if _shared_folder():
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _shared_folder() -> str | None:
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR")
