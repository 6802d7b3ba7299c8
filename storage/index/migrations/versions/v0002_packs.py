"""The catalogue: studies, series, loose instances and their values, packs, what is to be removed, the change feed."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from storage.index.migrations.partitions import create_spread_table, keep_apart, key_of_spread, vacuum_often

revision = "0002"
down_revision = None
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _texts(*names: str) -> "list[sa.Column[str]]":
    return [sa.Column(name, _Text, nullable=False) for name in names]


def _empty_text(name: str) -> "sa.Column[str]":
    return sa.Column(name, _Text, nullable=False, server_default="")


def _own_id(name: str = "id") -> "sa.Column[int]":
    return sa.Column(name, _Id, sa.Identity(), nullable=False)


def _ids(*names: str) -> "list[sa.Column[int]]":
    return [sa.Column(name, _Id, nullable=False) for name in names]


def _numbers(*names: str, default: str | None = None) -> "list[sa.Column[int]]":
    return [sa.Column(name, sa.BigInteger, nullable=False, server_default=default) for name in names]


def _counts(*names: str) -> "list[sa.Column[int]]":
    return [sa.Column(name, sa.Integer, nullable=False) for name in names]


def _blobs(*names: str) -> "list[sa.Column[bytes]]":
    return [sa.Column(name, sa.LargeBinary, nullable=False) for name in names]


def _version() -> "list[sa.Column[Any]]":
    return [
        *_texts("sop_uid", "sop_class"),
        sa.Column("instance_number", sa.BigInteger),
        *_blobs("digest"),
        *_texts("transfer_syntax", "store", "key"),
        *_numbers("offset", "length", "header_length"),
        *_blobs("header_digest"),
        *_counts("revision"),
        *_numbers("received_at"),
        *_texts("source"),
        sa.Column("repair", _Text),
        *_blobs("attributes"),
    ]


def upgrade() -> None:
    """Make all tables."""
    _studies_and_series()
    _loose_instances()
    _values("study_values", "study_id")
    _values("series_values", "study_id", "series_id")
    _names()
    _packs()
    _upkeep()
    _changes()
    probes = op.create_table(
        "probes",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        *_numbers("at"),
        sa.PrimaryKeyConstraint("id", name="pk_probes"),
    )
    op.bulk_insert(probes, [{"id": 1, "at": 0}])


def _studies_and_series() -> None:
    op.create_table(
        "studies",
        _own_id(),
        *_texts("study_uid"),
        _empty_text("study_date"),
        _empty_text("study_time"),
        *_texts("speaker_sop_uid", "speaker_series_uid"),
        *_counts("series_count", "instance_count"),
        _empty_text("modalities"),
        _empty_text("sop_classes"),
        *_blobs("attributes"),
        sa.PrimaryKeyConstraint("id", name="pk_studies"),
        sa.UniqueConstraint("study_uid", name="uq_studies_study_uid"),
    )
    order = [sa.text("study_date DESC"), sa.text("study_time DESC"), sa.text("study_uid")]
    op.create_index("ix_studies_order", "studies", order)
    create_spread_table(
        "series",
        "study_id",
        _own_id(),
        *_ids("study_id"),
        *_texts("series_uid"),
        sa.Column("series_number", sa.BigInteger),
        _empty_text("step_date"),
        _empty_text("step_time"),
        *_texts("speaker_sop_uid"),
        *_counts("instance_count"),
        *_numbers("loose_count", "loose_bytes", "touched_at", "pack_count", default="0"),
        *_blobs("attributes"),
        sa.PrimaryKeyConstraint(*key_of_spread("study_id"), name="pk_series"),
        sa.UniqueConstraint("study_id", "series_uid", name="uq_series_study_id_series_uid"),
        fill=90,
    )
    op.create_index("ix_series_series_uid", "series", ["series_uid"])
    _partial_index("ix_series_loose", "series", "touched_at", "loose_count > 0")
    _partial_index("ix_series_crowded", "series", "pack_count", "pack_count >= 8")


def _partial_index(name: str, table: str, column: str, condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, [column], sqlite_where=where, postgresql_where=where)


def _loose_instances() -> None:
    op.create_table(
        "instances",
        _own_id(),
        *_ids("study_id", "series_id"),
        *_version(),
        sa.PrimaryKeyConstraint("id", name="pk_instances"),
        sa.UniqueConstraint("study_id", "series_id", "sop_uid", name="uq_instances_study_id_series_id_sop_uid"),
    )
    op.create_index("ix_instances_sop_uid", "instances", ["sop_uid"])
    op.create_table(
        "contents",
        sa.Column("instance_id", _Id, autoincrement=False, nullable=False),
        *_blobs("metadata", "frames", "bulk"),
        sa.PrimaryKeyConstraint("instance_id", name="pk_contents"),
    )
    name = "uq_versions_study_id_series_id_sop_uid_revision"
    op.create_table(
        "versions",
        _own_id(),
        *_ids("study_id", "series_id"),
        *_version(),
        *_blobs("metadata", "frames", "bulk"),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.UniqueConstraint("study_id", "series_id", "sop_uid", "revision", name=name),
    )
    for table in ("contents", "versions"):
        keep_apart(table, "metadata", "frames", "bulk")
    vacuum_often("instances", "contents", "versions")


def _values(name: str, *owners: str) -> None:
    create_spread_table(
        name,
        "study_id",
        *_ids(*owners),
        *_texts("path"),
        *_counts("item"),
        sa.Column("part", sa.SmallInteger, nullable=False),
        *_texts("value"),
        sa.PrimaryKeyConstraint(*owners, "path", "item", "part", "value", name=f"pk_{name}"),
        sqlite_with_rowid=False,
    )
    op.create_index(f"ix_{name}_value", name, ["path", "value", *owners])


def _names() -> None:
    create_spread_table(
        "study_names",
        "study_id",
        *_ids("study_id"),
        *_texts("token"),
        sa.PrimaryKeyConstraint("study_id", "token", name="pk_study_names"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_study_names_token", "study_names", ["token", "study_id"])


def _packs() -> None:
    create_spread_table(
        "packs",
        "study_id",
        _own_id(),
        *_ids("study_id", "series_id"),
        *_texts("pack_id", "store", "key"),
        *_numbers("length", "metadata_offset", "metadata_length"),
        *_counts("instance_count", "removed_count"),
        *_numbers("edition", "made_at"),
        _empty_text("copied_to"),
        *_blobs("blocks", "listing"),
        sa.PrimaryKeyConstraint(*key_of_spread("study_id"), name="pk_packs"),
        sa.UniqueConstraint("study_id", "series_id", "pack_id", name="uq_packs_study_id_series_id_pack_id"),
    )
    op.create_index("ix_packs_key", "packs", ["key"])
    op.create_index("ix_packs_copied_to", "packs", ["copied_to", "id"])
    keep_apart("packs", "blocks", "listing")
    _partial_index("ix_packs_wasteful", "packs", "removed_count", "removed_count > 0")
    create_spread_table(
        "sealed_uids",
        "uid_hash",
        *_numbers("uid_hash"),
        *_ids("study_id", "series_id"),
        sa.PrimaryKeyConstraint("uid_hash", "study_id", "series_id", name="pk_sealed_uids"),
        sqlite_with_rowid=False,
    )


def _upkeep() -> None:
    op.create_table(
        "removals",
        *_texts("store", "key"),
        *_numbers("due_at"),
        sa.PrimaryKeyConstraint("store", "key", name="pk_removals"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_removals_due_at", "removals", ["due_at"])
    vacuum_often("removals")
    op.create_table(
        "leases",
        *_texts("name", "holder"),
        *_numbers("until"),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )


def _changes() -> None:
    op.create_table(
        "changes",
        _own_id("seq"),
        *_numbers("at"),
        *_texts("act", "study_uid", "series_uid", "sop_uid"),
        *_counts("revision"),
        sa.Column("series_id", _Id),
        sa.PrimaryKeyConstraint("seq", name="pk_changes"),
        sqlite_autoincrement=True,
    )
    _partial_index("ix_changes_series_id", "changes", "series_id", "series_id IS NOT NULL")
    vacuum_often("changes")
