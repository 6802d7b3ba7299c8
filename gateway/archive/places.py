"""Where the bytes of an archive lie: its object stores, under the names by which the index knows them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from storage.objects import ObjectStore
from storage.packs.blocks import BlockReader

SPOOL = "spool"  # where instances land
ARCHIVE = "archive"  # where packs lie
COPY = "copy"  # where packs lie once more


def _no_bound() -> None:
    """There is always room."""


@dataclass(frozen=True, slots=True)
class Places:
    """The object stores of an archive, and a folder for what is on its way in or out.

    `packs` is what packs are read from: the archive's store, or one that falls back to the copy. The bytes of stores
    in `remote` come over a network and are verified as they are read; `blocks` reads verified spans of all packs.
    `staging` is for what is received, `packing` for packs that are being made, each best on the file system of the
    store that it goes to; `check_room` raises Exhausted when nothing more should be written to `staging`. `hang_up`
    breaks off what waits for a store over a network.
    """

    spool: ObjectStore
    archive: ObjectStore
    packs: ObjectStore
    blocks: BlockReader
    staging: Path
    packing: Path
    copy: ObjectStore | None = None
    remote: frozenset[str] = frozenset()
    check_room: Callable[[], None] = _no_bound
    close: Callable[[], None] = field(default=_no_bound, repr=False)
    hang_up: Callable[[], None] = field(default=_no_bound, repr=False)

    @property
    def stores(self) -> Mapping[str, ObjectStore]:
        """The stores by name, for those who write and delete."""
        found = {SPOOL: self.spool, ARCHIVE: self.archive}
        return found if self.copy is None else {**found, COPY: self.copy}

    @property
    def reading(self) -> Mapping[str, ObjectStore]:
        """The stores by name, for those who read."""
        return {SPOOL: self.spool, ARCHIVE: self.packs}
