"""Connections that are lent: kept between two loans, bounded, closed in the end wherever they are."""

import pytest

from storage.errors import Exhausted, Unavailable
from storage.index.lending import Lending


class Connection:
    closed = False

    def close(self) -> None:
        self.closed = True


def test_what_is_given_back_is_lent_again() -> None:
    lending: Lending[Connection] = Lending(most=2, wait_seconds=60)
    assert lending.take() is None
    one = Connection()
    lending.give_back(one)
    assert lending.take() is one
    assert lending.take() is None


def test_so_many_at_once_and_no_more() -> None:
    lending: Lending[Connection] = Lending(most=1, wait_seconds=0.01)
    with pytest.raises(ZeroDivisionError), lending.place():
        with pytest.raises(Exhausted), lending.place():
            pass
        raise ZeroDivisionError
    with lending.place():
        pass


def test_all_are_closed_in_the_end() -> None:
    lending: Lending[Connection] = Lending(most=2, wait_seconds=60)
    idle, lent = Connection(), Connection()
    lending.give_back(idle)
    lending.close()
    assert (idle.closed, lent.closed) == (True, False)
    lending.give_back(lent)
    assert lent.closed
    with pytest.raises(Unavailable):
        lending.take()
