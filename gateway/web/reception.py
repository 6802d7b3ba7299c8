"""The instances of one store request: received one after another, stored side by side, reported in order."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from gateway import log
from gateway.archive import Archive, Expected
from gateway.archive.incoming import Incoming
from gateway.security.caller import Caller
from gateway.security.policy import Forbidden
from gateway.web import delivery, errors, failures, media
from gateway.web.errors import Refused
from gateway.web.failures import CANNOT_UNDERSTAND, Failure
from gateway.web.store_response import Failed, Result
from storage.dicom.identity import Identity
from storage.dicom.parse import parse
from storage.errors import StorageError

FLUSH_BYTES = 1 << 20
MAX_PARTS = 100_000
MAX_LOGGED = 20  # refused parts of one request
_logger = log.get(__name__)
# What holds until a part is known to be stored: a part of which nothing is known must not pass for one that is.
_UNTOLD = Failed(failures.UNFORESEEN, "what became of the part is not known")
_OTHER_TYPE = Failed(Failure(CANNOT_UNDERSTAND, 415), "the part is not application/dicom")

Write = Callable[[Incoming], None]


class Reception:
    """Takes parts in and stores up to `concurrency` of them while later ones arrive.

    The bytes of a part reach the archive in threads, 1 MiB at a time, because that may touch the disk.
    """

    def __init__(self, archive: Archive, expected: Expected, by: Caller, concurrency: int) -> None:
        self._archive = archive
        self._expected = expected
        self._by = by
        self._slots = asyncio.Semaphore(concurrency)
        self._running: set[asyncio.Task[None]] = set()
        self._results: list[Result] = []
        self._forbidden: Forbidden | None = None
        self._incoming: Incoming | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    @property
    def parts(self) -> int:
        """How many parts have begun."""
        return len(self._results)

    def begin(self, content_type: str) -> None:
        """A part begins. One of another type than application/dicom is passed over and reported.

        Raises Refused (413) when there are more parts, of whatever type, than one request may have.
        """
        if len(self._results) >= MAX_PARTS:
            raise Refused(413, "too-large", f"more than {MAX_PARTS} parts in one request: send several")
        self._results.append(_UNTOLD)
        if content_type.partition(";")[0].strip().lower() not in ("", media.DICOM):
            self._results[-1] = _OTHER_TYPE
        else:
            try:
                self._incoming = self._archive.incoming()
            except StorageError as error:
                self._results[-1] = Failed(failures.of(error), str(error))

    async def data(self, data: bytes) -> None:
        """More bytes of the part that has begun."""
        if self._incoming is None:
            return
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= FLUSH_BYTES:
            incoming, pending = self._incoming, self._taken()
            try:
                await delivery.in_storing_thread(_write, incoming, pending)
            except StorageError as error:
                await self.give_up(Failed(failures.of(error), str(error)))

    async def end(self) -> None:
        """The part is whole: store it, at once or when one of those being stored is done."""
        if self._incoming is None:
            return
        await self._slots.acquire()
        incoming, self._incoming = self._incoming, None
        self._begin_to_store(incoming, partial(_write, pending=self._taken()), None)

    async def make(self, write: Write, identity: Identity | None) -> None:
        """Store one more instance, whose bytes `write` makes, as if it were a part that has come whole.

        `identity` is what it would be, for as long as there are no bytes that tell.
        """
        self._results.append(_UNTOLD)
        await self._slots.acquire()
        try:
            incoming = self._archive.incoming()
        except StorageError as error:
            self._slots.release()
            self._results[-1] = Failed(failures.of(error), str(error), identity)
        else:
            self._begin_to_store(incoming, write, identity)

    def _begin_to_store(self, incoming: Incoming, write: Write, identity: Identity | None) -> None:
        task = asyncio.create_task(self._store(len(self._results) - 1, incoming, write, identity))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def give_up(self, failed: Failed | None = None) -> None:
        """Forget the part that has begun; what was received of it is removed. Reported if `failed` is given."""
        if self._incoming is not None:
            incoming, self._incoming = self._incoming, None
            self._taken()
            if failed is not None:
                self._results[-1] = failed
            await delivery.in_storing_thread(incoming.close)
        elif failed is not None:
            self._results.append(failed)

    async def finished(self) -> Sequence[Result]:
        """What became of each part that has begun, when the last is stored. Raises Forbidden for who may not store."""
        await self.settled()
        if self._forbidden is not None:
            raise self._forbidden
        self._log_refused()
        return self._results

    async def settled(self) -> None:
        """Wait until nothing is being stored."""
        while self._running:
            await asyncio.wait(self._running)

    def _log_refused(self) -> None:
        refused = [(number, result) for number, result in enumerate(self._results, 1) if isinstance(result, Failed)]
        for number, failed in refused[:MAX_LOGGED]:
            _logger.warning(
                "STOW-RS part refused",
                caller=self._by.identity,
                part=number,
                of=len(self._results),
                reason=f"{failed.failure.reason:04X}H",
                why=failed.message,
            )

    def _taken(self) -> list[bytes]:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        return pending

    async def _store(self, number: int, incoming: Incoming, write: Write, identity: Identity | None) -> None:
        try:
            self._results[number] = await delivery.in_storing_thread(self._store_now, incoming, write, identity)
        except Forbidden as error:
            self._forbidden = error
        except Exception as error:
            self._results[number] = _unforeseen(error, identity)
        finally:
            self._slots.release()

    def _store_now(self, incoming: Incoming, write: Write, identity: Identity | None) -> Result:
        try:
            write(incoming)
            return self._archive.store(incoming, self._expected, by=self._by)
        except StorageError as error:
            return Failed(failures.of(error), str(error), identity or _identity(incoming))
        except Forbidden:
            raise
        except Exception as error:
            return _unforeseen(error, identity or _identity(incoming))
        finally:
            incoming.close()


def _write(incoming: Incoming, pending: list[bytes]) -> None:
    for data in pending:
        incoming.write(data)


def _unforeseen(error: Exception, identity: Identity | None) -> Failed:
    text = f"an unexpected error, in the log of the gateway as {errors.log_unforeseen(error)}"
    return Failed(failures.UNFORESEEN, text, identity)


def _identity(incoming: Incoming) -> Identity | None:
    """Which instance it would have been, if its bytes tell: a failure names the instance it is about (I.2.2).

    Never raises: what the store made of the bytes is to be reported even when nothing can be made of them here.
    """
    try:
        with incoming.view() as data:
            return parse(data).identity
    except StorageError:
        return None
    except Exception as error:
        errors.log_unforeseen(error)
        return None
