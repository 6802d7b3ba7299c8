"""The errors of storage: what becomes of them between processes."""

import pickle

import pytest

from storage import errors


@pytest.mark.parametrize(
    "error",
    [
        errors.Invalid(errors.Fault.MALFORMED, "cut short"),
        errors.NotFound("no such frame"),
        errors.NotAcceptable("not in this form"),
        errors.Conflict("there already"),
        errors.Unavailable("later"),
        errors.Exhausted("full"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_whole_out_of_another_process(error: errors.StorageError) -> None:
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)
