"""The catalogue: studies, series, instances, their versions and values, the change feed."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import SchemaItem

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _text(name: str) -> "sa.Column[str]":
    return sa.Column(name, _Text, nullable=False, server_default="")


def _belongs_to(column: str, table: str, name: str) -> list[SchemaItem]:
    return [
        sa.Column(column, _Id, nullable=False),
        sa.ForeignKeyConstraint([column], [f"{table}.id"], name=name, ondelete="CASCADE"),
    ]


def _location() -> list[SchemaItem]:
    return [
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("transfer_syntax", _Text, nullable=False),
        sa.Column("store", _Text, nullable=False),
        sa.Column("key", _Text, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("header_length", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("source", _Text, nullable=False),
    ]


def upgrade() -> None:
    """Make all tables."""
    _studies_and_series()
    _instances()
    _values("study_values", "study_id", "studies")
    _values("series_values", "series_id", "series")
    op.create_table(
        "changes",
        sa.Column("seq", _Id, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("act", _Text, nullable=False),
        sa.Column("study_uid", _Text, nullable=False),
        sa.Column("series_uid", _Text, nullable=False),
        sa.Column("sop_uid", _Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_changes"),
    )
    op.create_table(
        "probes",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_probes"),
    )


def _studies_and_series() -> None:
    op.create_table(
        "studies",
        sa.Column("id", _Id, nullable=False),
        sa.Column("study_uid", _Text, nullable=False),
        _text("study_date"),
        _text("study_time"),
        sa.Column("speaker_sop_uid", _Text, nullable=False),
        sa.Column("speaker_series_uid", _Text, nullable=False),
        sa.Column("series_count", sa.Integer, nullable=False),
        sa.Column("instance_count", sa.Integer, nullable=False),
        _text("modalities"),
        _text("sop_classes"),
        sa.Column("attributes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_studies"),
        sa.UniqueConstraint("study_uid", name="uq_studies_study_uid"),
    )
    order = [sa.text("study_date DESC"), sa.text("study_time DESC"), sa.text("study_uid")]
    op.create_index("ix_studies_order", "studies", order)
    op.create_table(
        "series",
        sa.Column("id", _Id, nullable=False),
        *_belongs_to("study_id", "studies", "fk_series_studies"),
        sa.Column("series_uid", _Text, nullable=False),
        sa.Column("series_number", sa.BigInteger),
        _text("step_date"),
        _text("step_time"),
        sa.Column("speaker_sop_uid", _Text, nullable=False),
        sa.Column("instance_count", sa.Integer, nullable=False),
        sa.Column("attributes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_series"),
        sa.UniqueConstraint("study_id", "series_uid", name="uq_series_study_id_series_uid"),
    )
    op.create_index("ix_series_series_uid", "series", ["series_uid"])


def _instances() -> None:
    op.create_table(
        "instances",
        sa.Column("id", _Id, nullable=False),
        *_belongs_to("series_id", "series", "fk_instances_series"),
        sa.Column("sop_uid", _Text, nullable=False),
        sa.Column("sop_class", _Text, nullable=False),
        sa.Column("instance_number", sa.BigInteger),
        *_location(),
        sa.Column("attributes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_instances"),
        sa.UniqueConstraint("series_id", "sop_uid", name="uq_instances_series_id_sop_uid"),
    )
    op.create_index("ix_instances_sop_uid", "instances", ["sop_uid"])
    op.create_table(
        "contents",
        sa.Column("instance_id", _Id, autoincrement=False, nullable=False),
        sa.Column("metadata", sa.LargeBinary, nullable=False),
        sa.Column("frames", sa.LargeBinary, nullable=False),
        sa.Column("bulk", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("instance_id", name="pk_contents"),
        sa.ForeignKeyConstraint(["instance_id"], ["instances.id"], name="fk_contents_instances", ondelete="CASCADE"),
    )
    op.create_table(
        "versions",
        sa.Column("id", _Id, nullable=False),
        *_belongs_to("instance_id", "instances", "fk_versions_instances"),
        *_location(),
        sa.Column("kept_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.UniqueConstraint("instance_id", "revision", name="uq_versions_instance_id_revision"),
    )


def _values(name: str, owner: str, table: str) -> None:
    op.create_table(
        name,
        *_belongs_to(owner, table, f"fk_{name}_{table}"),
        sa.Column("path", _Text, nullable=False),
        sa.Column("item", sa.Integer, nullable=False),
        sa.Column("part", sa.SmallInteger, nullable=False),
        sa.Column("value", _Text, nullable=False),
        sa.PrimaryKeyConstraint(owner, "path", "item", "part", "value", name=f"pk_{name}"),
        sqlite_with_rowid=False,
    )
    op.create_index(f"ix_{name}_value", name, ["path", "value", owner])
