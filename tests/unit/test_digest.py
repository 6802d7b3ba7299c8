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


def test_it_does_not_depend_on_the_file_meta_information() -> None:
    file = part10(ct())
    instance = parse(file)
    digest = InstanceDigest(instance.transfer_syntax, instance.header_length)
    digest.update(file)
    assert digest.digest() == instance.digest
    assert parse(dataset_bytes(file)).digest == instance.digest
