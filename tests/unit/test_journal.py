"""The journal of the index is emptied between readers, and who cannot says so."""

from gateway import metrics
from gateway.archive.journal import JournalEmptier


class Busy:
    """A journal that is emptied at the last of so many tries; time passes by pauses alone."""

    def __init__(self, tries: int) -> None:
        self.left = tries
        self.now = 0.0
        self.emptier = JournalEmptier(self.empty, clock=lambda: self.now, pause=self.pause)

    def empty(self) -> bool:
        self.left -= 1
        return self.left <= 0

    def pause(self, seconds: float) -> None:
        self.now += seconds


def kept_seconds() -> float:
    [line] = [line for line in metrics.render().decode().splitlines() if line.startswith("gateway_journal_seconds ")]
    return float(line.split()[1])


def test_it_is_tried_in_short_steps_until_nobody_is_in_the_way() -> None:
    journal = Busy(5)
    assert not journal.emptier.run_once()
    assert journal.left == 0 and journal.now < 1


def test_it_is_not_emptied_again_at_once() -> None:
    journal = Busy(1)
    for _ in range(3):
        journal.emptier.run_once()
    assert journal.left == 0
    journal.now += 6
    journal.emptier.run_once()
    assert journal.left == -1


def test_it_tries_again_at_the_next_look_and_tells_how_long_it_has_not_been_emptied() -> None:
    journal = Busy(50)
    for _ in range(2):
        journal.emptier.run_once()
        journal.now += 3000
    assert journal.left == 10
    assert kept_seconds() > 3000
    journal.emptier.run_once()
    assert journal.left == 0 and kept_seconds() == 0
