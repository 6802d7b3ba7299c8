import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from storage.dicom.digest import InstanceDigest
from storage.dicom.parse import parse
from tests.samples import ct, dataset_bytes, part10

SYNTAX = "1.2.840.10008.1.2.1"


@given(st.binary(max_size=500), st.integers(0, 600), st.lists(st.integers(1, 100), min_size=1, max_size=20))
def test_it_is_the_same_however_the_bytes_come(data: bytes, header_length: int, sizes: list[int]) -> None:
    digest = InstanceDigest(SYNTAX, header_length)
    position = 0
    while position < len(data):
        for size in sizes:
            digest.update(memoryview(data)[position : position + size])
            position += size
    assert digest.digest() == blake3(SYNTAX.encode() + data[header_length:]).digest()
    assert digest.header_digest() == blake3(data[:header_length]).digest(16)
    assert digest.fits(digest.digest(), None)
    assert digest.fits(digest.digest(), digest.header_digest())
    assert not digest.fits(digest.digest(), b"x" * 16)
    assert not digest.fits(b"x" * 32, digest.header_digest())


def test_it_does_not_depend_on_the_file_meta_information() -> None:
    file = part10(ct())
    instance = parse(file)
    digest = InstanceDigest(instance.transfer_syntax, instance.header_length)
    digest.update(file)
    assert digest.digest() == instance.digest
    assert parse(dataset_bytes(file)).digest == instance.digest


@pytest.mark.parametrize("begin", ["a whole file", "no preamble", "no file meta"])
def test_what_lies_before_the_data_set_has_a_digest_of_its_own(begin: str) -> None:
    file = part10(ct())
    sent = {"a whole file": file, "no preamble": file[128:], "no file meta": dataset_bytes(file)}[begin]
    instance = parse(sent)
    stored = instance.preface + sent
    assert instance.header_digest == blake3(stored[: instance.header_length]).digest(16)
    assert stored[instance.header_length :] == dataset_bytes(file)
    other = parse(b"x" + file[1:])
    assert (other.digest, other.header_digest == instance.header_digest) == (instance.digest, False)
