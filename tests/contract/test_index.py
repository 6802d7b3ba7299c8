"""What every `MetadataIndex` does, sentence by sentence of the Protocol. Implementations join the list below."""

import random
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from storage.dicom.identity import Scope
from storage.dicom.query import MAX_TEXT, Level, Query
from storage.errors import Conflict, Invalid, NotFound, Unavailable
from storage.index import Act, Added, MetadataIndex, Outcome
from tests import samples
from tests.contract.conftest import Open
from tests.contract.index_samples import ask, first, firsts, instance, json_instance, record, scope_of


def study(number: int = 1) -> str:
    return f"{samples.ROOT}.{number}"


def series(number: int = 1, of_study: int = 1) -> str:
    return f"{samples.ROOT}.{of_study}.{number}"


class TestAdd:
    def test_a_new_instance_is_found_at_every_level(self, index: MetadataIndex) -> None:
        assert index.add(record(instance())) == Added(Outcome.NEW, 1)
        for level in Level:
            assert len(index.search(ask(level, {"PatientID": "P1"})).rows) == 1

    def test_the_same_bytes_again_change_nothing(self, index: MetadataIndex) -> None:
        index.add(record(instance()))
        before = index.changes(0, 10)
        assert index.add(record(instance(), received_at=2)) == Added(Outcome.SAME, 1)
        assert index.changes(0, 10) == before

    def test_other_bytes_become_the_served_version(self, index: MetadataIndex) -> None:
        old, new = instance(), instance(PatientID="OTHER", SeriesDescription="new")
        index.add(record(old))
        assert index.add(record(new)) == Added(Outcome.VERSION, 2)
        assert firsts(index, ask(Level.STUDY), "PatientID") == ["OTHER"]
        assert firsts(index, ask(Level.SERIES), "SeriesDescription") == ["new"]
        assert firsts(index, ask(Level.STUDY), "NumberOfStudyRelatedInstances") == [1]
        [stored] = index.locate(scope_of(new))
        assert (stored.digest, stored.revision) == (new.digest, 2)
        assert [data for _, data in index.metadata(scope_of(new))] == [new.metadata]
        assert index.holds(new.identity, new.digest) and not index.holds(old.identity, old.digest)

    def test_a_superseded_version_sent_again_is_the_newest_version(self, index: MetadataIndex) -> None:
        old, new = instance(), instance(PatientID="OTHER")
        outcomes = [index.add(record(each)) for each in (old, new, old)]
        assert outcomes[2] == Added(Outcome.VERSION, 3)
        assert firsts(index, ask(Level.STUDY), "PatientID") == ["P1"]

    def test_the_same_sop_uid_in_another_series_or_study_is_another_instance(self, index: MetadataIndex) -> None:
        uid = f"{samples.ROOT}.99"
        for made in (instance(1, 1), instance(1, 2, SOPInstanceUID=uid), instance(2, 1, SOPInstanceUID=uid)):
            assert index.add(record(made)).outcome is Outcome.NEW
        other_study = instance(3, 1, SOPInstanceUID=uid, SeriesInstanceUID=series(2))
        assert index.add(record(other_study)).outcome is Outcome.NEW
        assert len(index.search(ask(Level.INSTANCE, {"SOPInstanceUID": uid})).rows) == 3
        assert len(index.locate(Scope(study(1), series(2)))) == 1

    def test_counts_and_modalities_are_right_after_each_add(self, index: MetadataIndex) -> None:
        for number, modality in enumerate(["CT", "SR", "CT"], start=1):
            index.add(record(instance(1, number, Modality=modality)))
            [row] = index.search(ask(Level.STUDY)).rows
            assert first(row, "NumberOfStudyRelatedSeries") == number
            assert first(row, "NumberOfStudyRelatedInstances") == number
        index.add(record(instance(1, 2, 2, Modality="SR", SOPClassUID="1.2.3")))
        [row] = index.search(ask(Level.STUDY, include=frozenset({"00080062"}))).rows
        assert row["00080061"]["Value"] == ["CT", "SR"]
        assert row["00080062"]["Value"] == ["1.2.3", samples.CT]
        assert firsts(index, ask(Level.SERIES), "NumberOfSeriesRelatedInstances") == [1, 2, 1]

    def test_a_study_without_any_modality_is_of_other_modality(self, index: MetadataIndex) -> None:
        index.add(record(instance(1, 1, Modality=None)))
        assert firsts(index, ask(Level.STUDY, {"ModalitiesInStudy": "OT"}), "ModalitiesInStudy") == ["OT"]
        index.add(record(instance(1, 2, Modality="CT")))
        [row] = index.search(ask(Level.STUDY)).rows
        assert row["00080061"]["Value"] == ["CT"]

    def test_the_smallest_sop_uid_speaks_whatever_the_order_of_arrival(self, opened: Open, tmp_path: Path) -> None:
        made = [instance(1, 1, n, PatientID=f"P-{n}", SeriesDescription=f"S-{n}", Modality=f"M{n}") for n in (3, 1, 2)]
        index = opened()
        for each in made:
            index.add(record(each))
        assert firsts(index, ask(Level.STUDY), "PatientID") == ["P-1"]
        assert firsts(index, ask(Level.SERIES), "SeriesDescription") == ["S-1"]
        assert firsts(index, ask(Level.STUDY, {"ModalitiesInStudy": "M1"}), "ModalitiesInStudy") == ["M1"]
        assert not index.search(ask(Level.STUDY, {"PatientID": "P-3"})).rows
        index.remove(scope_of(made[1]))
        assert firsts(index, ask(Level.STUDY), "PatientID") == ["P-2"]
        assert firsts(index, ask(Level.SERIES), "SeriesDescription") == ["S-2"]
        assert firsts(index, ask(Level.STUDY, {"PatientID": "P-2", "ModalitiesInStudy": "M2"}), "PatientID") == ["P-2"]

    def test_many_threads_and_two_openings_add_to_one_study(self, opened: Open) -> None:
        indexes = [opened(), opened()]
        records = [record(instance(1, 1 + n % 3, n)) for n in range(60)]
        with ThreadPoolExecutor(16) as pool:
            added = list(pool.map(lambda n: indexes[n % 2].add(records[n // 2]), range(120)))
        assert sorted(each.outcome for each in added) == [Outcome.NEW] * 60 + [Outcome.SAME] * 60
        [row] = indexes[0].search(ask(Level.STUDY)).rows
        assert (first(row, "NumberOfStudyRelatedSeries"), first(row, "NumberOfStudyRelatedInstances")) == (3, 60)
        changes = indexes[1].changes(0, 1000)
        assert len(changes) == 60 and [each.seq for each in changes] == sorted({each.seq for each in changes})

    def test_text_that_is_hostile_or_long_is_kept_as_it_is(self, index: MetadataIndex) -> None:
        for number, text in enumerate(["'; DROP TABLE studies; --", "%_[a-z]", "长" * 3000], start=1):
            index.add(record(instance(number, PatientID=text[:64], PatientComments=text)))
            [row] = index.search(ask(Level.STUDY, {"PatientID": text[:64]}, include=frozenset({"00104000"}))).rows
            assert first(row, "PatientComments") == text

    def test_the_longest_text_that_takes_part_in_matching_is_found(self, index: MetadataIndex) -> None:
        """Characters of four bytes in no order, which no database compresses."""
        characters = random.Random(1).sample(range(0x20000, 0x2A000), 2 * MAX_TEXT)
        text = "".join(map(chr, characters))
        long = {
            "00081030": {"vr": "LO", "Value": [text]},
            "0008103E": {"vr": "LO", "Value": [text]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": text}]},
        }
        index.add(record(json_instance(instance().dataset | long)))
        begun = {"StudyDescription": text[:MAX_TEXT], "PatientName": f"{text[:100]}*"}
        [row] = index.search(ask(Level.STUDY, begun, include=frozenset({"00081030"}))).rows
        assert first(row, "StudyDescription") == text

    @pytest.mark.parametrize("values", [["hello"], [7], [{"Alphabetic": "Wang"}]])
    def test_what_should_be_a_sequence_and_is_none_is_kept_and_removed(
        self, index: MetadataIndex, values: list[object]
    ) -> None:
        odd = instance(1, 1, 2).dataset | {"00400275": {"vr": "LO", "Value": values}}
        index.add(record(instance(1, 1, 1)))
        assert index.add(record(json_instance(odd))).outcome is Outcome.NEW
        assert not index.search(ask(Level.SERIES, {"RequestAttributesSequence.00401001": "hello"})).rows
        index.remove(Scope(study(), series(), f"{series()}.1"))
        assert firsts(index, ask(Level.STUDY), "NumberOfStudyRelatedInstances") == [1]


class TestRead:
    def test_locate_goes_by_series_then_instance_number(self, index: MetadataIndex) -> None:
        for one_series, number in ((2, 1), (1, 10), (1, 2)):
            index.add(record(instance(1, one_series, number)))
        index.add(record(instance(1, 1, 5, InstanceNumber=None)))
        order = [each.identity.sop_uid for each in index.locate(Scope(study()))]
        assert order == [f"{series(1)}.2", f"{series(1)}.10", f"{series(1)}.5", f"{series(2)}.1"]
        assert [identity.sop_uid for identity, _ in index.metadata(Scope(study()))] == order
        assert len(index.locate(Scope(study(), series(1)))) == 3

    def test_locate_gives_what_reading_needs(self, index: MetadataIndex) -> None:
        made = instance()
        index.add(record(made))
        [stored] = index.locate(scope_of(made))
        assert stored.identity == made.identity and stored.location == record(made).location
        assert (stored.transfer_syntax, stored.header_length) == (made.transfer_syntax, made.header_length)
        assert (stored.digest, stored.header_digest) == (made.digest, made.header_digest)

    def test_the_same_data_set_behind_another_header_changes_nothing(self, index: MetadataIndex) -> None:
        made = instance()
        index.add(record(made))
        added = index.add(record(replace(made, header_length=7, header_digest=b"o" * 16)))
        assert added == Added(Outcome.SAME, 1)
        [stored] = index.locate(scope_of(made))
        assert (stored.header_length, stored.header_digest) == (made.header_length, made.header_digest)

    def test_contents_are_what_was_parsed(self, index: MetadataIndex) -> None:
        made = instance()
        index.add(record(made))
        contents = index.contents(scope_of(made))
        assert contents.frames == made.frames and contents.bulk == dict(made.bulk)

    @pytest.mark.parametrize("read", ["locate", "metadata", "remove"])
    @pytest.mark.parametrize(
        "scope",
        [Scope(study(2)), Scope(study(1), series(1, 2)), Scope(study(1), series(1), "1.2"), Scope("1", series(1))],
    )
    def test_what_is_not_there_is_not_found_at_once(self, index: MetadataIndex, read: str, scope: Scope) -> None:
        index.add(record(instance()))
        with pytest.raises(NotFound):
            getattr(index, read)(scope)

    def test_contents_of_what_is_not_there_are_not_found(self, index: MetadataIndex) -> None:
        with pytest.raises(NotFound):
            index.contents(Scope("1", "2", "3"))

    def test_metadata_survives_a_removal_while_it_is_read(self, index: MetadataIndex) -> None:
        for number in range(1, 201):
            index.add(record(instance(1, 1, number)))
        reading = index.metadata(Scope(study()))
        got = [next(reading)[0].sop_uid]
        index.remove(Scope(study(), series(), f"{series()}.200"))
        got += [identity.sop_uid for identity, _ in reading]
        assert got == [f"{series()}.{number}" for number in range(1, 200)]

    def test_metadata_of_large_instances_is_read_in_bounded_memory(self, index: MetadataIndex) -> None:
        long = {"00104000": {"vr": "LT", "Value": ["x" * (1 << 20)]}}
        for number in range(1, 31):
            index.add(record(json_instance(instance(1, 1, number).dataset | long)))
        tracemalloc.start()
        try:
            read = sum(1 for _ in index.metadata(Scope(study())))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert read == 30 and peak < 16 << 20

    def test_readers_see_whole_transactions_while_others_write(self, index: MetadataIndex) -> None:
        index.add(record(instance()))
        stop = threading.Event()
        wrong: list[tuple[int, int]] = []

        def read() -> None:
            while not stop.is_set():
                [row] = index.search(ask(Level.STUDY)).rows
                counts = first(row, "NumberOfStudyRelatedSeries"), first(row, "NumberOfStudyRelatedInstances")
                if counts[0] != counts[1]:
                    wrong.append(counts)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for each in readers:
            each.start()
        for number in range(2, 40):
            index.add(record(instance(1, number)))
        stop.set()
        for each in readers:
            each.join()
        assert not wrong


class TestRemove:
    def test_an_instance_takes_its_empty_series_and_study_along(self, index: MetadataIndex) -> None:
        made = [instance(1, 1, 1), instance(1, 2, 1, Modality="SR", SOPClassUID="1.2.3")]
        for each in made:
            index.add(record(each))
        removed = index.remove(scope_of(made[1]))
        assert (removed.instances, removed.locations) == (1, (record(made[1]).location,))
        [row] = index.search(ask(Level.STUDY, include=frozenset({"00080062"}))).rows
        assert first(row, "NumberOfStudyRelatedSeries") == first(row, "NumberOfStudyRelatedInstances") == 1
        assert row["00080061"]["Value"] == ["CT"] and row["00080062"]["Value"] == [samples.CT]
        assert not index.search(ask(Level.STUDY, {"ModalitiesInStudy": "SR"})).rows
        index.remove(scope_of(made[0]))
        assert all(not index.search(ask(level)).rows for level in Level)

    def test_all_versions_go_and_each_object_is_named_once(self, index: MetadataIndex) -> None:
        old, new = instance(), instance(PatientID="OTHER")
        for each in (old, new, old):
            index.add(record(each))
        removed = index.remove(Scope(study()))
        assert removed.instances == 1
        assert sorted(location.key for location in removed.locations) == sorted(
            record(each).location.key for each in (old, new)
        )
        with pytest.raises(Conflict):
            index.add(record(old))
        assert index.add(record(old, attempt="-1")) == Added(Outcome.NEW, 1)

    def test_a_series_goes_and_the_rest_stays(self, index: MetadataIndex) -> None:
        for number in range(1, 4):
            index.add(record(instance(1, 1, number)))
            index.add(record(instance(1, 2, number)))
        assert index.remove(Scope(study(), series(1))).instances == 3
        assert firsts(index, ask(Level.SERIES), "SeriesInstanceUID") == [series(2)]
        assert firsts(index, ask(Level.STUDY), "NumberOfStudyRelatedInstances") == [3]


class TestChanges:
    def test_every_act_is_recorded_in_order(self, index: MetadataIndex) -> None:
        made = instance()
        index.add(record(made))
        index.add(record(instance(PatientID="OTHER")))
        index.remove(Scope(study()))
        changes = index.changes(0, 10)
        assert [(each.act, each.revision) for each in changes] == [(Act.STORED, 1), (Act.VERSION, 2), (Act.DELETED, 0)]
        assert (changes[0].study_uid, changes[0].series_uid, changes[0].sop_uid) == (study(), series(), f"{series()}.1")
        assert (changes[2].series_uid, changes[2].sop_uid) == ("", "")
        assert index.changes(changes[0].seq, 1) == [changes[1]]
        assert index.changes(changes[2].seq, 10) == []


class TestPages:
    def test_slices_of_one_order_and_what_remains(self, index: MetadataIndex) -> None:
        for number in range(1, 8):
            index.add(record(instance(number, StudyDate="20260101" if number % 2 else "")))
        whole = firsts(index, ask(Level.STUDY), "StudyInstanceUID")
        assert whole == [study(n) for n in (1, 3, 5, 7, 2, 4, 6)]
        for size in (1, 2, 3, 7, 10):
            pages = [index.search(ask(Level.STUDY, limit=size, offset=at)) for at in range(0, 7, size)]
            assert [first(row, "StudyInstanceUID") for page in pages for row in page.rows] == whole
            assert [page.remaining for page in pages] == [max(0, 7 - at - size) for at in range(0, 7, size)]
        nothing = index.search(ask(Level.STUDY, limit=0))
        assert (nothing.rows, nothing.remaining, nothing.remaining_is_exact) == ([], 7, True)
        beyond = index.search(ask(Level.STUDY, offset=1 << 70))
        assert (beyond.rows, beyond.remaining) == ([], 0)

    def test_a_parent_that_does_not_belong_finds_nothing(self, index: MetadataIndex) -> None:
        index.add(record(instance(1, 1)))
        index.add(record(instance(2, 1)))
        assert not index.search(ask(Level.INSTANCE, study_uid=study(1), series_uid=series(1, 2))).rows
        assert len(index.search(ask(Level.INSTANCE, study_uid=study(1), series_uid=series(1))).rows) == 1
        assert not index.search(ask(Level.SERIES, study_uid=study(3))).rows

    def test_keys_of_a_level_below_are_refused(self, index: MetadataIndex) -> None:
        with pytest.raises(Invalid):
            index.search(ask(Level.STUDY, {"Modality": "CT"}))


class TestLife:
    def test_what_was_added_is_there_after_reopening(self, opened: Open) -> None:
        first_opening = opened()
        first_opening.add(record(instance()))
        first_opening.close()
        assert len(opened().search(Query(Level.STUDY)).rows) == 1

    def test_check_passes_and_a_closed_index_says_so(self, opened: Open) -> None:
        index = opened()
        index.check()
        index.close()
        index.close()
        for act in (index.check, lambda: index.add(record(instance())), lambda: index.search(Query(Level.STUDY))):
            with pytest.raises(Unavailable):
                act()

    def test_closing_finishes_what_was_accepted(self, opened: Open) -> None:
        index = opened()
        made = [record(instance(1, 1, number)) for number in range(40)]
        with ThreadPoolExecutor(20) as pool:
            futures = [pool.submit(index.add, each) for each in made]
            futures[0].result()
            index.close()
        added = [each for each in futures if each.exception() is None]
        assert all(isinstance(each.exception(), Unavailable) for each in futures if each not in added)
        assert len(opened().locate(Scope(study()))) == len(added)
