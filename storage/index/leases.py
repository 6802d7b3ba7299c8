"""Names that one process holds for a time, so that several do not do the same work at once."""

from sqlalchemy import bindparam, delete, or_, update
from sqlalchemy.dialects.postgresql import insert  # SQLite took over these words

from storage.index import feed
from storage.index.schema import leases
from storage.index.session import Session

_TAKE = (
    update(leases)
    .values(holder=bindparam("new_holder"), until=bindparam("new_until"))
    .where(
        leases.c.name == bindparam("lease"),
        or_(leases.c.until <= bindparam("moment"), leases.c.holder == bindparam("new_holder")),
    )
)
_MAKE = insert(leases).values({name: bindparam(name) for name in ("name", "holder", "until")}).on_conflict_do_nothing()
_RELEASE = delete(leases).where(leases.c.name == bindparam("lease"), leases.c.holder == bindparam("holder"))


def take(session: Session, name: str, holder: str, seconds: float) -> bool:
    """See `PackingIndex.lease`."""
    now = feed.now()
    until = now + int(seconds * 1_000_000)
    if session.run(_TAKE, lease=name, new_holder=holder, new_until=until, moment=now).rowcount:
        return True
    return bool(session.run(_MAKE, name=name, holder=holder, until=until).rowcount)


def release(session: Session, name: str, holder: str) -> None:
    """See `PackingIndex.release`."""
    session.run(_RELEASE, lease=name, holder=holder)
