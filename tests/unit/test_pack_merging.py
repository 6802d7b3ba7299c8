"""Which packs are merged: never many small ones for long, and no byte is written anew often."""

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from storage.dicom.frames import FrameTable, Span
from storage.objects import Location
from storage.packs import Blocks, Pack, PackedInstance
from storage.packs.merging import AT_LEAST, AT_MOST, MAX_INSTANCES, MAX_METADATA_BYTES, SIZES, size, to_be_merged

_OVERHEAD = 1500  # bytes of a pack with one instance, beside the instance
_FOR_EACH = 900


def instance(number: int, length: int = 1000) -> PackedInstance:
    frames = FrameTable.none()
    uid = f"1.2.{number}"
    return PackedInstance(uid, "1.9", number, "1.2", 0, length, 0, b"d", 1, 0, "", None, b"{}", frames, {})


def pack(*instances: PackedInstance) -> Pack:
    ordered = tuple(sorted(instances, key=lambda one: one.instance_number or 0))
    length = sum(one.length for one in ordered) + _OVERHEAD + _FOR_EACH * len(ordered)
    name = f"{ordered[0].instance_number or 0:032x}"
    return Pack(name, "1", "1.2", Location("archive", name, 0, length), Span(0, 300), Blocks(length, b""), ordered)


def chosen(packs: list[Pack], max_bytes: int = 1 << 40) -> list[Pack]:
    return to_be_merged(packs, max_bytes)


def merged(packs: list[Pack]) -> Pack:
    return pack(*(one for each in packs for one in each.instances))


def factors_of_eight(whole: Pack, smallest: int) -> int:
    """How many times, begun."""
    return size(whole.location.length) - size(smallest + _OVERHEAD + _FOR_EACH) + 1


def test_sizes() -> None:
    assert [size(length) for length in (0, 4095, 4096, 32767, 32768, (128 << 20) - 1, 128 << 20)] == [
        0, 0, 1, 1, 2, 5, 6,
    ]  # fmt: skip


def test_eight_of_like_size_are_merged_and_seven_are_not() -> None:
    packs = [pack(instance(number)) for number in range(7)]
    assert chosen(packs) == []
    assert chosen([*packs, pack(instance(7, 40_000))]) == []
    assert chosen([*packs, pack(instance(7))]) == [*packs, pack(instance(7))]


def test_neighbours_are_merged_and_not_too_many_at_once() -> None:
    packs = [pack(instance(number)) for number in range(40)]
    assert chosen(packs[::-1]) == packs[:AT_MOST]


def test_none_becomes_larger_than_a_pack_may_be() -> None:
    packs = [pack(instance(number)) for number in range(16)]
    length = packs[0].location.length
    assert chosen(packs, 10 * length) == packs[:10]
    assert chosen(packs, 8 * length) == packs[:8]
    assert chosen(packs, 8 * length - 1) == []


def test_the_smallest_are_merged_first() -> None:
    small = [pack(instance(number)) for number in range(8)]
    larger = [pack(instance(number, 40_000)) for number in range(8, 16)]
    assert chosen([*larger, *small]) == small


def test_large_packs_and_those_that_share_a_version_stay() -> None:
    small = [pack(instance(number)) for number in range(7)]
    large = pack(instance(7, SIZES[-1]))
    many = pack(*(instance(number, 0) for number in range(10, 11 + MAX_INSTANCES)))
    wordy = replace(pack(instance(8)), metadata=Span(0, MAX_METADATA_BYTES + 1))
    twin = pack(instance(6), instance(9))
    for other in (large, many, wordy, twin):
        assert chosen([*small, other] + [other] * AT_LEAST) == []


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.sampled_from([500, 2000, 30_000, 500_000]), min_size=1, max_size=400))
def test_whatever_trickles_in_few_packs_stay_and_no_byte_is_written_often(lengths: list[int]) -> None:
    packs: list[Pack] = []
    written: Counter[str] = Counter()
    for number, length in enumerate(lengths):
        packs.append(pack(instance(number, length)))
        while found := chosen(packs):
            new = merged(found)
            written.update(one.sop_uid for one in new.instances)
            packs = [one for one in packs if one not in found] + [new]
    assert max(written.values(), default=0) <= 2 * factors_of_eight(merged(packs), min(lengths))
    assert len(packs) < AT_LEAST * len(SIZES)
    assert sorted(one.sop_uid for one in merged(packs).instances) == sorted(f"1.2.{n}" for n in range(len(lengths)))
