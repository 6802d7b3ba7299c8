"""The tables of the index, declared once, for every database. Sizes, orders and uniqueness are explained here.

Text is compared by code point on all of them. A change of this file needs a migration (see migrations/versions).
There are no foreign keys: the tables that grow are led by `study_id`, by which a database may spread them out, and
rows that belong together are removed together, explicitly.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

REVISION = "0003"  # the migration that makes these tables

_Id = BigInteger().with_variant(Integer, "sqlite")
_Text = Text()  # the migrations see to its collation: not declared here, it would be said again at each parameter
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _text(name: str) -> "Column[str]":
    """Text that is empty rather than null, so that an order is the same in every database."""
    return Column(name, _Text, nullable=False, server_default="")


def _ids(*names: str) -> "list[Column[int]]":
    return [Column(name, _Id, nullable=False) for name in names]


def _number(name: str) -> "Column[int]":
    return Column(name, BigInteger, nullable=False, server_default="0")


def _version() -> "list[Column[object]]":
    """What is kept of one loose version of an instance, but for its wide part."""
    return [
        Column("sop_uid", _Text, nullable=False),
        Column("sop_class", _Text, nullable=False),
        Column("instance_number", BigInteger),
        Column("digest", LargeBinary, nullable=False),
        Column("transfer_syntax", _Text, nullable=False),
        Column("store", _Text, nullable=False),
        Column("key", _Text, nullable=False),
        Column("offset", BigInteger, nullable=False),
        Column("length", BigInteger, nullable=False),
        Column("header_length", BigInteger, nullable=False),
        Column("header_digest", LargeBinary, nullable=False),
        Column("revision", Integer, nullable=False),
        Column("received_at", BigInteger, nullable=False),  # microseconds since 1970-01-01 UTC, as all moments here
        Column("source", _Text, nullable=False),
        Column("repair", _Text),
        Column("attributes", LargeBinary, nullable=False),
    ]


def _contents() -> "list[Column[bytes]]":
    return [Column(name, LargeBinary, nullable=False) for name in ("metadata", "frames", "bulk")]


# The speaker of a study or series is the instance with the smallest SOP Instance UID: its attributes are the study's
# or series', whatever the order of arrival. `attributes` is DICOM JSON: exactly what a search returns at that level.
studies = Table(
    "studies",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("study_uid", _Text, nullable=False),
    _text("study_date"),
    _text("study_time"),
    Column("speaker_sop_uid", _Text, nullable=False),
    Column("speaker_series_uid", _Text, nullable=False),
    Column("series_count", Integer, nullable=False),
    Column("instance_count", Integer, nullable=False),
    _text("modalities"),  # distinct, ascending, separated by backslashes; so are the SOP classes
    _text("sop_classes"),
    Column("attributes", LargeBinary, nullable=False),
    UniqueConstraint("study_uid"),
)
Index("ix_studies_order", studies.c.study_date.desc(), studies.c.study_time.desc(), studies.c.study_uid)

# `loose_count` and `loose_bytes` are of all versions that lie loose, `touched_at` is when the last of them came.
series = Table(
    "series",
    metadata,
    Column("id", _Id, primary_key=True),
    *_ids("study_id"),
    Column("series_uid", _Text, nullable=False),
    Column("series_number", BigInteger),
    _text("step_date"),
    _text("step_time"),
    Column("speaker_sop_uid", _Text, nullable=False),
    Column("instance_count", Integer, nullable=False),
    _number("loose_count"),
    _number("loose_bytes"),
    _number("touched_at"),
    _number("pack_count"),
    Column("attributes", LargeBinary, nullable=False),
    UniqueConstraint("study_id", "series_uid"),
)
Index("ix_series_series_uid", series.c.series_uid)
_LOOSE = series.c.loose_count > 0
Index("ix_series_loose", series.c.touched_at, sqlite_where=_LOOSE, postgresql_where=_LOOSE)

_CROWDED = series.c.pack_count >= 8  # as `storage.packs.merging` has it: some may be merged
Index("ix_series_crowded", series.c.pack_count, sqlite_where=_CROWDED, postgresql_where=_CROWDED)

# The served versions that lie loose. Of an instance whose served version is in a pack there is no row here.
# The same SOP Instance UID in another series is another instance: real archives have such pairs.
instances = Table(
    "instances",
    metadata,
    Column("id", _Id, primary_key=True),
    *_ids("study_id", "series_id"),
    *_version(),
    UniqueConstraint("study_id", "series_id", "sop_uid"),
)
Index("ix_instances_sop_uid", instances.c.sop_uid)

# The wide part of an instance, apart so that listing instances does not read it.
contents = Table("contents", metadata, Column("instance_id", _Id, primary_key=True, autoincrement=False), *_contents())

# Loose versions that a newer one, loose or packed, has superseded; their bytes stay.
versions = Table(
    "versions",
    metadata,
    Column("id", _Id, primary_key=True),
    *_ids("study_id", "series_id"),
    *_version(),
    *_contents(),
    UniqueConstraint("study_id", "series_id", "sop_uid", "revision"),
)


def _values(name: str, *owners: str) -> Table:
    """One row for each value to match: `item` counts values or sequence items, `part` PN component groups, from 0."""
    table = Table(
        name,
        metadata,
        *_ids(*owners),
        Column("path", _Text, nullable=False),
        Column("item", Integer, nullable=False),
        Column("part", SmallInteger, nullable=False),
        Column("value", _Text, nullable=False),
        PrimaryKeyConstraint(*owners, "path", "item", "part", "value"),
        sqlite_with_rowid=False,
    )
    Index(f"ix_{name}_value", table.c.path, table.c.value, *(table.c[owner] for owner in owners))
    return table


study_values = _values("study_values", "study_id")
series_values = _values("series_values", "study_id", "series_id")

# What names can be found by: words, and how they are spoken; the referring physician's behind `@` and the tag.
study_names = Table(
    "study_names",
    metadata,
    *_ids("study_id"),
    Column("token", _Text, nullable=False),
    PrimaryKeyConstraint("study_id", "token"),
    sqlite_with_rowid=False,
)
Index("ix_study_names_token", study_names.c.token, study_names.c.study_id)

# `listing` holds the instances that are left of a pack (see `storage.index.listing`); `edition` is another random
# number each time that it is written, in all packs. `removed_count` are in the object but not in the listing.
packs = Table(
    "packs",
    metadata,
    Column("id", _Id, primary_key=True),
    *_ids("study_id", "series_id"),
    Column("pack_id", _Text, nullable=False),
    Column("store", _Text, nullable=False),
    Column("key", _Text, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("metadata_offset", BigInteger, nullable=False),
    Column("metadata_length", BigInteger, nullable=False),
    Column("instance_count", Integer, nullable=False),
    Column("removed_count", Integer, nullable=False),
    Column("edition", BigInteger, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    _text("copied_to"),  # the store in which a copy was confirmed
    Column("blocks", LargeBinary, nullable=False),
    Column("listing", LargeBinary, nullable=False),
    UniqueConstraint("study_id", "series_id", "pack_id"),
)
_WASTEFUL = packs.c.removed_count > 0
Index("ix_packs_key", packs.c.key)  # by which nothing that a pack is named by is ever removed
Index("ix_packs_copied_to", packs.c.copied_to, packs.c.id)
Index("ix_packs_wasteful", packs.c.removed_count, sqlite_where=_WASTEFUL, postgresql_where=_WASTEFUL)

# In which series a SOP Instance UID is packed: the first 8 bytes of its BLAKE2b, so one in a while is another's.
sealed_uids = Table(
    "sealed_uids",
    metadata,
    Column("uid_hash", BigInteger, nullable=False),
    *_ids("study_id", "series_id"),
    PrimaryKeyConstraint("uid_hash", "study_id", "series_id"),
    sqlite_with_rowid=False,
)

# Objects that are doomed: nothing names them (any more), and they are removed when it is due.
removals = Table(
    "removals",
    metadata,
    Column("store", _Text, nullable=False),
    Column("key", _Text, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("store", "key"),
    sqlite_with_rowid=False,
)
Index("ix_removals_due_at", removals.c.due_at)

leases = Table(
    "leases",
    metadata,
    Column("name", _Text, primary_key=True),
    Column("holder", _Text, nullable=False),
    Column("until", BigInteger, nullable=False),
)

# Which object store is meant by each name: the identity that lies in it (see `storage.objects.keys.STORE_ID`).
stores = Table(
    "stores",
    metadata,
    Column("name", _Text, primary_key=True),
    Column("identity", _Text, nullable=False),
)

# The change feed. Rows are appended in the order in which they become visible, and numbers are never used again.
# `series_id` is of rows that one about their whole series will stand for.
changes = Table(
    "changes",
    metadata,
    Column("seq", _Id, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("act", _Text, nullable=False),
    Column("study_uid", _Text, nullable=False),
    Column("series_uid", _Text, nullable=False),
    Column("sop_uid", _Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("series_id", _Id),
    sqlite_autoincrement=True,
)
_OF_SERIES = changes.c.series_id.is_not(None)
Index("ix_changes_series_id", changes.c.series_id, sqlite_where=_OF_SERIES, postgresql_where=_OF_SERIES)

# One row that `check` writes, so that it fails when storing would.
probes = Table(
    "probes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
)
