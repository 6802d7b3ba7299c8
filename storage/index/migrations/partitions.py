"""What PostgreSQL alone is told about tables: how they are spread over partitions, and how their columns are kept."""

from alembic import op
from sqlalchemy.schema import SchemaItem

PARTITIONS = 16  # at a billion instances each has some millions of rows of each table


def create_spread_table(
    name: str, by: str, *items: SchemaItem, fill: int = 100, sqlite_with_rowid: bool = True
) -> None:
    """Make a table whose rows PostgreSQL spreads by the hash of column `by`, which leads or ends its primary key.

    `fill` percent of each page are used by inserts; the rest is for updates, which then need not touch the indexes.
    """
    op.create_table(name, *items, postgresql_partition_by=f"HASH ({by})", sqlite_with_rowid=sqlite_with_rowid)
    if not is_postgresql():
        return
    for number in range(PARTITIONS):
        op.execute(
            f"CREATE TABLE {name}_{number:02} PARTITION OF {name} "
            f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number}) WITH (fillfactor = {fill})"
        )


def key_of_spread(*led_by: str) -> tuple[str, ...]:
    """The columns of a primary key on `id`, which PostgreSQL wants to be led by what the rows are spread by."""
    return (*led_by, "id") if is_postgresql() else ("id",)


def keep_apart(table: str, *columns: str) -> None:
    """Values that are compressed already, or read at once and soon gone: not worth compressing."""
    for column in columns if is_postgresql() else ():
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")


def vacuum_often(*tables: str) -> None:
    """Tables that rows come to and go from all the time: free their space before it is much."""
    for table in tables if is_postgresql() else ():
        op.execute(
            f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, "
            "autovacuum_analyze_scale_factor = 0.05)"
        )


def is_postgresql() -> bool:
    """Whether the tables are made in PostgreSQL."""
    return op.get_context().dialect.name == "postgresql"
