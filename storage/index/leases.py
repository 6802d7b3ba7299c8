"""Names that one process holds for a time, so that several do not do the same work at once.

Time is the database's, which is one for all: the clock of a gateway may be ahead of another's.
"""

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, bindparam, delete, or_, update
from sqlalchemy.dialects.postgresql import insert  # SQLite took over these words
from sqlalchemy.ext.compiler import compiles

from storage.index.schema import leases
from storage.index.session import Session


class _Now(ColumnElement[int]):
    """Microseconds since 1970-01-01 UTC, at the moment that the statement is run."""

    inherit_cache = True
    type = BigInteger()


@compiles(_Now, "postgresql")
def _now_in_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"


@compiles(_Now, "sqlite")
def _now_in_sqlite(*_: Any, **__: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000000 AS integer)"


_UNTIL = _Now() + bindparam("microseconds", type_=BigInteger())
_IS_HIS = (leases.c.name == bindparam("lease")) & (leases.c.holder == bindparam("its_holder"))
_TAKE = (
    update(leases)
    .values(holder=bindparam("its_holder"), until=_UNTIL)
    .where(
        leases.c.name == bindparam("lease"), or_(leases.c.until <= _Now(), leases.c.holder == bindparam("its_holder"))
    )
)
_MAKE = insert(leases).values(name=bindparam("lease"), holder=bindparam("its_holder"), until=_UNTIL)
_MAKE = _MAKE.on_conflict_do_nothing()
_RENEW = update(leases).values(until=_UNTIL).where(_IS_HIS)
_RELEASE = delete(leases).where(_IS_HIS)


def take(session: Session, name: str, holder: str, seconds: float) -> bool:
    """See `PackingIndex.lease`."""
    values = {"lease": name, "its_holder": holder, "microseconds": int(seconds * 1_000_000)}
    return any(session.run(statement, **values).rowcount for statement in (_TAKE, _MAKE))


def renew(session: Session, name: str, holder: str, seconds: float) -> bool:
    """See `PackingIndex.renew`."""
    microseconds = int(seconds * 1_000_000)
    return bool(session.run(_RENEW, lease=name, its_holder=holder, microseconds=microseconds).rowcount)


def release(session: Session, name: str, holder: str) -> None:
    """See `PackingIndex.release`."""
    session.run(_RELEASE, lease=name, its_holder=holder)
