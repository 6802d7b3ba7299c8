"""The tables of the index, declared once, for every database. Sizes, orders and uniqueness are explained here.

Text is compared by code point on all of them. A change of this file needs a migration (see migrations/versions).
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
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

REVISION = "0001"  # the migration that makes these tables

_Id = BigInteger().with_variant(Integer, "sqlite")
_Text = Text().with_variant(Text(collation="C"), "postgresql")
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _text(name: str) -> "Column[str]":
    """Text that is empty rather than null, so that an order is the same in every database."""
    return Column(name, _Text, nullable=False, server_default="")


def _belongs_to(table: str) -> "Column[int]":
    name = {"studies": "study_id", "series": "series_id", "instances": "instance_id"}[table]
    return Column(name, _Id, ForeignKey(f"{table}.id", ondelete="CASCADE"), nullable=False)


def _location() -> "list[Column[object]]":
    """What reading the stored bytes of one version needs."""
    return [
        Column("digest", LargeBinary, nullable=False),
        Column("transfer_syntax", _Text, nullable=False),
        Column("store", _Text, nullable=False),
        Column("key", _Text, nullable=False),
        Column("offset", BigInteger, nullable=False),
        Column("length", BigInteger, nullable=False),
        Column("header_length", BigInteger, nullable=False),
        Column("revision", Integer, nullable=False),
        Column("received_at", BigInteger, nullable=False),  # microseconds since 1970-01-01 UTC
        Column("source", _Text, nullable=False),
    ]


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

series = Table(
    "series",
    metadata,
    Column("id", _Id, primary_key=True),
    _belongs_to("studies"),
    Column("series_uid", _Text, nullable=False),
    Column("series_number", BigInteger),
    _text("step_date"),
    _text("step_time"),
    Column("speaker_sop_uid", _Text, nullable=False),
    Column("instance_count", Integer, nullable=False),
    Column("attributes", LargeBinary, nullable=False),
    UniqueConstraint("study_id", "series_uid"),
)
Index("ix_series_series_uid", series.c.series_uid)

# The same SOP Instance UID in another series is another instance: real archives have such pairs.
instances = Table(
    "instances",
    metadata,
    Column("id", _Id, primary_key=True),
    _belongs_to("series"),
    Column("sop_uid", _Text, nullable=False),
    Column("sop_class", _Text, nullable=False),
    Column("instance_number", BigInteger),
    *_location(),
    Column("attributes", LargeBinary, nullable=False),
    UniqueConstraint("series_id", "sop_uid"),
)
Index("ix_instances_sop_uid", instances.c.sop_uid)

# The wide part of an instance, apart so that listing instances does not read it.
contents = Table(
    "contents",
    metadata,
    Column("instance_id", _Id, ForeignKey("instances.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("metadata", LargeBinary, nullable=False),
    Column("frames", LargeBinary, nullable=False),
    Column("bulk", LargeBinary, nullable=False),
)

# Versions that a newer one has superseded; their bytes stay.
versions = Table(
    "versions",
    metadata,
    Column("id", _Id, primary_key=True),
    _belongs_to("instances"),
    *_location(),
    Column("kept_at", BigInteger, nullable=False),
    UniqueConstraint("instance_id", "revision"),
)


def _values(name: str, owner: str) -> Table:
    """One row for each value to match: `item` counts values or sequence items, `part` PN component groups, from 0."""
    column = _belongs_to(owner)
    table = Table(
        name,
        metadata,
        column,
        Column("path", _Text, nullable=False),
        Column("item", Integer, nullable=False),
        Column("part", SmallInteger, nullable=False),
        Column("value", _Text, nullable=False),
        PrimaryKeyConstraint(column.name, "path", "item", "part", "value"),
        sqlite_with_rowid=False,
    )
    Index(f"ix_{name}_value", table.c.path, table.c.value, column)
    return table


study_values = _values("study_values", "studies")
series_values = _values("series_values", "series")

# The change feed, only ever appended to, by one writer at a time: so numbers grow and become visible in their order.
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
)

# One row that `check` writes, so that it fails when storing would.
probes = Table(
    "probes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
)
