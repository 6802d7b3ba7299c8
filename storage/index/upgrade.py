"""Brings the tables of an index to the form that this program knows, once, whoever opens it first."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from storage.errors import Unavailable
from storage.index.schema import REVISION

_FOLDER = Path(__file__).parent / "migrations"


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, inside the transaction that `connection` has begun.

    The caller makes sure that it is the only one (a lock that the transaction holds). Raises Unavailable for tables
    of a form that it does not know.
    """
    if current(connection) == REVISION:
        return
    # Only a new or an old index pays for the import.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = current(connection)
    if found is not None and found not in known:
        raise Unavailable(
            f"the index has the form {found} and this version of the gateway knows {REVISION}: run the version that "
            "wrote it (a newer version is never undone), or move the index away and build it anew by `gateway reindex`"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def current(connection: Connection) -> str | None:
    """The revision of the tables that are there; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found
