"""Which object stores are meant by the names in the index: each is known by the identity that lies in it."""

from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.postgresql import insert  # SQLite took over these words of its own accord

from storage.index.schema import packs, stores
from storage.index.session import Session, constant

_KNOWN = select(stores.c.identity).where(stores.c.name == bindparam("name"))
_NEW = insert(stores).values(name=bindparam("name"), identity=bindparam("identity"))
_MEET = _NEW.on_conflict_do_nothing()
_REPLACE = _NEW.on_conflict_do_update(index_elements=["name"], set_={"identity": _NEW.excluded.identity})
_UNCONFIRM = update(packs).values(copied_to=constant("")).where(packs.c.copied_to == bindparam("name"))


def known(session: Session, name: str) -> str | None:
    """See `KnownStores.known_store`."""
    row = session.run(_KNOWN, name=name).fetchone()
    return None if row is None else str(row[0])


def meet(session: Session, name: str, identity: str) -> str:
    """See `KnownStores.meet_store`."""
    session.run(_MEET, name=name, identity=identity)
    return known(session, name) or identity


def replace(session: Session, name: str, identity: str) -> None:
    """See `KnownStores.replace_store`."""
    if known(session, name) != identity:
        session.run(_UNCONFIRM, name=name)
        session.run(_REPLACE, name=name, identity=identity)
