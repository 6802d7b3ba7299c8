"""The stored form of what the index keeps of a pack."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.dicom.frames import FrameTable, Span
from storage.dicom.instance import BulkValue
from storage.index.listing import Listing, encode
from storage.packs import PackedInstance

spans = st.builds(Span, st.integers(0, 1 << 40), st.integers(0, 1 << 33))
several = st.lists(spans, max_size=5)
frames = st.one_of(
    st.just(FrameTable.none()),
    st.builds(FrameTable.native, st.integers(0, 1 << 40), st.integers(1, 1 << 33), st.integers(1, 1000)),
    several.map(FrameTable.fragments),
    several.map(lambda found: FrameTable.fragments(found, range(0, len(found), 2))),
    st.builds(FrameTable.stream, several, st.integers(1, 9)),
)
bulk = st.dictionaries(
    st.sampled_from(["7FE00010", "00281201", "00400275/1/00091010"]),
    st.builds(BulkValue, st.sampled_from(["OW", "OB", "UN"]), several.map(tuple)),
    max_size=3,
)
uids = st.sampled_from(["1.2.3", "1.2.30", "1.2", "1.2.840.10008.5.1.4.1.1.2", "2.25.99"])
numbers = st.integers(0, 1 << 40)
instances = st.builds(
    PackedInstance,
    sop_uid=uids,
    sop_class=uids,
    instance_number=st.none() | st.integers(-(10**18), 10**18),
    transfer_syntax=uids,
    offset=numbers,
    length=numbers,
    header_length=numbers,
    digest=st.binary(min_size=32, max_size=32),
    revision=st.integers(1, 1 << 31),
    received_at=numbers,
    source=st.sampled_from(["dimse:CT1", "stow:王", ""]),
    repair=st.sampled_from([None, "ISO_IR 100 read as GB18030"]),
    attributes=uids.map(lambda uid: f'{{"00080018":{{"vr":"UI","Value":["{uid}"]}}}}'.encode()) | st.binary(max_size=9),
    frames=frames,
    bulk=bulk,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(instances, min_size=1, max_size=8), st.booleans())
def test_what_is_written_is_read(made: list[PackedInstance], partly: bool) -> None:
    positions = [number * 3 for number in range(len(made))] if partly else None
    listing = Listing(encode(made, positions))
    assert list(listing.instances()) == made
    assert list(listing.instances([len(made) - 1])) == made[-1:]
    assert len(listing) == len(made)
    assert (None if listing.positions is None else list(listing.positions)) == positions
    assert listing.attributes() == [each.attributes for each in made]


@settings(max_examples=60, deadline=None)
@given(st.lists(instances, min_size=1, max_size=8))
def test_the_highest_revision_is_served(made: list[PackedInstance]) -> None:
    listing = Listing(encode(made, None))
    for sop_uid in {each.sop_uid for each in made}:
        row = listing.find(sop_uid)
        assert row is not None and listing.served()[sop_uid] == row
        assert made[row].sop_uid == sop_uid
        assert made[row].revision == max(each.revision for each in made if each.sop_uid == sop_uid)
    assert listing.find("9.9") is None


def instance(number: int) -> PackedInstance:
    table = FrameTable.fragments([Span(300 + number, 99)])
    attributes = f'{{"00080018":{{"vr":"UI","Value":["1.2.3.{number}"]}}}}'.encode()
    sop_uid, digest = f"1.2.3.{number}", bytes([number]) * 32
    return PackedInstance(
        sop_uid, "1.2", number, "1.2.1", number * 500, 400, 130, digest, 1, 7, "s", None, attributes, table, {}
    )


@pytest.mark.parametrize("damage", [b"", b"\x00" * 40, b"\x02", b"\x01" * 5])
def test_what_is_no_listing_is_refused(damage: bytes) -> None:
    with pytest.raises(ValueError, match="not a listing"):
        Listing(damage)


def test_digests_of_several_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        encode([instance(1), replace(instance(2), digest=b"short")], None)
