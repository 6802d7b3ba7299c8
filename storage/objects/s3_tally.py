"""What a store in a bucket tells of its requests to whoever counts what they cost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from storage.errors import StorageError
from storage.objects.s3_errors import Away, Crowded, Passing


def _uncounted(_: str, __: object) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Tally:
    """`asked` is given the operation and the outcome of each request that was sent, attempts that failed included:

    ok, refused (absent, there already, no right), error (the server said that it cannot now) or unanswered. `moved` is
    given a direction (sent, received) and bytes of objects and of lists. Both are called from many threads.
    """

    asked: Callable[[str, str], None] = _uncounted
    moved: Callable[[str, int], None] = _uncounted

    @contextmanager
    def request(self, operation: str) -> Iterator[None]:
        """Around one request, whatever it raises."""
        try:
            yield
        except Crowded:  # it was not sent
            raise
        except Away:
            self.asked(operation, "unanswered")
            raise
        except Passing:
            self.asked(operation, "error")
            raise
        except StorageError:
            self.asked(operation, "refused")
            raise
        self.asked(operation, "ok")
