"""What every index knows of the object stores that it names."""

from concurrent.futures import ThreadPoolExecutor

from storage.index.sql import SqlIndex
from tests import samples
from tests.contract.conftest import Open
from tests.contract.index_samples import instance, record
from tests.contract.pack_samples import KeptDocuments, seal


def known(opened: Open) -> SqlIndex:
    index = opened()
    assert isinstance(index, SqlIndex)
    return index


def test_the_one_that_is_met_first_is_known_from_then_on(opened: Open) -> None:
    index = known(opened)
    assert index.known_store("spool") is None
    assert index.meet_store("spool", "a") == "a"
    assert index.meet_store("spool", "b") == "a"
    assert index.meet_store("archive", "b") == "b"
    assert [known(opened).known_store(name) for name in ("spool", "archive", "copy")] == ["a", "b", None]


def test_those_who_meet_different_ones_at_once_come_to_know_the_same(opened: Open) -> None:
    indexes = [known(opened) for _ in range(4)]
    with ThreadPoolExecutor(len(indexes)) as threads:
        met = set(threads.map(lambda index: index.meet_store("spool", str(indexes.index(index))), indexes))
    assert met == {indexes[0].known_store("spool")}


def test_another_takes_its_place_when_it_is_said_so(opened: Open) -> None:
    index = known(opened)
    index.replace_store("spool", "a")
    index.replace_store("spool", "b")
    assert index.known_store("spool") == "b"


def test_copies_in_another_store_are_to_be_made_anew(opened: Open) -> None:
    documents = KeptDocuments()
    index = opened(documents)
    assert isinstance(index, SqlIndex)
    index.add(record(instance(1, 1, 1)))
    pack = seal(index, documents, f"{samples.ROOT}.1", f"{samples.ROOT}.1.1")
    index.meet_store("copy", "a")
    index.copied(pack, "copy")
    index.replace_store("copy", "a")
    index.replace_store("archive", "b")
    assert index.is_copied(pack, "copy")
    index.replace_store("copy", "b")
    assert not index.is_copied(pack, "copy")
    assert list(index.uncopied("copy", 10)) == [pack]
