"""The identities of the object stores that the index speaks of."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "stores",
        sa.Column("name", _Text, nullable=False),
        sa.Column("identity", _Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_stores"),
    )
