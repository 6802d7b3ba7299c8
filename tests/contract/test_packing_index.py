"""What every `PackingIndex` does, sentence by sentence of the Protocol."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import pytest

from storage.dicom.identity import Scope
from storage.dicom.query import Level
from storage.errors import Conflict, NotFound, Unavailable
from storage.index import Act, Added, Location, Outcome, Overdue, PackingIndex, feed
from storage.objects import keys
from storage.packs import Pack
from tests import samples
from tests.contract import index_samples
from tests.contract.conftest import Open
from tests.contract.index_samples import ask, first, firsts, json_instance, record, scope_of
from tests.contract.pack_samples import HOUR, KeptDocuments, compact, merge, one_pack, pack_of, packed_loose, seal, soon

instance = cache(index_samples.instance)
STUDY, SERIES, OTHER_SERIES = f"{samples.ROOT}.1", f"{samples.ROOT}.1.1", f"{samples.ROOT}.1.2"


@pytest.fixture
def documents() -> KeptDocuments:
    return KeptDocuments()


@pytest.fixture
def index(opened: Open, documents: KeptDocuments) -> PackingIndex:
    return opened(documents)


def fill(index: PackingIndex, count: int, series: int = 1) -> None:
    for number in range(1, count + 1):
        index.add(record(instance(1, series, number)))


def sop(number: int, series: str = SERIES) -> str:
    return f"{series}.{number}"


def answers(index: PackingIndex, study: str = STUDY) -> dict[str, object]:
    """All that readers see of a study, but for where it lies."""
    located = index.locate(Scope(study))
    return {
        "located": [(each.identity, each.transfer_syntax, each.digest, each.header_length) for each in located],
        "lengths": [each.location.length for each in located],
        "metadata": list(index.metadata(Scope(study))),
        "contents": [
            index.contents(Scope(each.identity.study_uid, each.identity.series_uid, each.identity.sop_uid))
            for each in located
        ],
        "held": [index.holds(each.identity, each.digest) for each in located],
        "studies": index.search(ask(Level.STUDY, include_all=True)).rows,
        "series": index.search(ask(Level.SERIES, include_all=True)).rows,
    }


class TestSeal:
    def test_nothing_that_readers_see_changes(self, index: PackingIndex, documents: KeptDocuments) -> None:
        fill(index, 5)
        fill(index, 2, series=2)
        index.add(record(instance(1, 1, 6, InstanceNumber=None, SOPClassUID="1.2.3")))
        before = answers(index)
        pack = seal(index, documents, STUDY, SERIES)
        assert answers(index) == before
        assert one_pack(index, STUDY) == pack
        located = index.locate(Scope(STUDY, SERIES))
        assert {each.blocks for each in located} == {pack.blocks}
        assert {each.header_digest for each in located} == {None}
        assert [each.location.offset for each in located] == [each.offset for each in pack.instances]
        assert {each.location.key for each in located} == {pack.location.key}

    def test_several_packs_and_loose_instances_are_read_as_one_series(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        for number in (1, 4, 7, 2, 5, 8):
            index.add(record(instance(1, 1, number)))
        before = answers(index)
        seal(index, documents, STUDY, SERIES, most=2)
        seal(index, documents, STUDY, SERIES, most=2)
        assert answers(index) == before
        assert len(list(index.packs())) == 2
        index.add(record(instance(1, 1, 3)))
        order = [each.identity.sop_uid for each in index.locate(Scope(STUDY))]
        assert order == [sop(number) for number in (1, 2, 3, 4, 5, 7, 8)]
        assert [identity.sop_uid for identity, _ in index.metadata(Scope(STUDY))] == order

    def test_loose_objects_are_doomed_and_the_packs_removal_is_called_off(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 3)
        places = {each.location.key for each in index.loose(STUDY, SERIES)}
        seal(index, documents, STUDY, SERIES)
        assert {each.key for each in index.doomed(soon(2 * 3600), 10)} == places
        assert {each.key for each in index.doomed(soon(1), 10)} == places

    def test_one_change_stands_for_all_that_came_before(self, index: PackingIndex, documents: KeptDocuments) -> None:
        fill(index, 3)
        fill(index, 1, series=2)
        seen = index.changes(0, 10)[-1].seq
        pack = seal(index, documents, STUDY, SERIES)
        changes = index.changes(0, 10)
        assert [(each.act, each.series_uid) for each in changes] == [(Act.STORED, OTHER_SERIES), (Act.SEALED, SERIES)]
        assert changes[-1].seq > seen and (changes[-1].sop_uid, changes[-1].study_uid) == ("", pack.study_uid)
        index.add(record(instance(1, 1, 9)))
        seal(index, documents, STUDY, SERIES)
        assert [each.act for each in index.changes(seen, 10)] == [Act.SEALED]

    def test_changes_of_a_series_of_which_more_lies_loose_stay(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 3)
        seal(index, documents, STUDY, SERIES, most=2)
        assert [each.act for each in index.changes(0, 10)] == [Act.STORED] * 3 + [Act.SEALED]

    def test_a_pack_that_was_not_announced_is_refused(self, index: PackingIndex, documents: KeptDocuments) -> None:
        fill(index, 2)
        pack, places = packed_loose(STUDY, SERIES, list(index.loose(STUDY, SERIES)), documents)
        with pytest.raises(Conflict):
            index.seal(pack, places)
        index.doom([pack.location], soon(1))
        with pytest.raises(Conflict):
            index.seal(pack, places)
        index.doom([pack.location], soon())  # does not put off what was to go earlier
        with pytest.raises(Conflict):
            index.seal(pack, places)
        index.forget([pack.location])
        index.doom([pack.location], soon())
        index.seal(pack, places)

    @pytest.mark.parametrize("change", ["removed", "superseded", "elsewhere", "other bytes", "sealed", "study gone"])
    def test_all_or_none(self, index: PackingIndex, documents: KeptDocuments, change: str) -> None:
        fill(index, 3)
        pack, places = packed_loose(STUDY, SERIES, list(index.loose(STUDY, SERIES)), documents)
        index.doom([pack.location], soon())
        if change == "removed":
            index.remove(Scope(STUDY, SERIES, sop(2)))
        elif change == "superseded":
            pack = replace(pack, instances=(*pack.instances[:2], replace(pack.instances[2], revision=2)))
        elif change == "elsewhere":
            places[2] = replace(places[2], key="another")
        elif change == "other bytes":
            pack = replace(pack, instances=(*pack.instances[:2], replace(pack.instances[2], digest=b"x" * 32)))
        elif change == "sealed":
            seal(index, documents, STUDY, SERIES, most=1)
        else:
            index.remove(Scope(STUDY))
            index.add(record(instance(2)))
        study = f"{samples.ROOT}.2" if change == "study gone" else STUDY
        before, feed, doomed = answers(index, study), index.changes(0, 100), index.doomed(soon(9999), 100)
        with pytest.raises(Conflict):
            index.seal(pack, places)
        assert (answers(index, study), index.changes(0, 100)) == (before, feed)
        assert index.doomed(soon(9999), 100) == doomed

    def test_of_many_who_seal_the_same_one_succeeds(self, opened: Open, documents: KeptDocuments) -> None:
        indexes = [opened(documents), opened(documents)]
        fill(indexes[0], 20)
        before = answers(indexes[0])
        pack, places = packed_loose(STUDY, SERIES, list(indexes[0].loose(STUDY, SERIES)), documents)
        indexes[0].doom([pack.location], soon())

        def attempt(number: int) -> bool:
            try:
                indexes[number % 2].seal(pack, places)
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(attempt, range(6))) == 1
        assert answers(indexes[1]) == before and one_pack(indexes[1], STUDY) == pack

    def test_superseded_versions_are_sealed_and_the_newest_is_served(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        old, new = instance(), instance(PatientID="OTHER", InstanceNumber=7)
        fill(index, 2)
        index.add(record(new))
        before = answers(index)
        revisions = [(each.packed.sop_uid, each.packed.revision) for each in index.loose(STUDY, SERIES)]
        assert revisions == [(sop(1), 1), (sop(2), 1), (sop(1), 2)]
        # The newest first, so that what it supersedes stays loose and must not be served for that.
        loose = list(index.loose(STUDY, SERIES))
        pack, places = packed_loose(STUDY, SERIES, loose[1:], documents)
        index.doom([pack.location], soon())
        index.seal(pack, places)
        assert answers(index) == before
        seal(index, documents, STUDY, SERIES)
        assert answers(index) == before
        assert not list(index.loose(STUDY, SERIES)) and len(list(index.packs())) == 2
        assert index.holds(new.identity, new.digest) and not index.holds(old.identity, old.digest)


class TestAddToASealedSeries:
    def test_the_same_bytes_again_change_nothing(self, index: PackingIndex, documents: KeptDocuments) -> None:
        fill(index, 3)
        seal(index, documents, STUDY, SERIES)
        before = answers(index), index.changes(0, 10)
        assert index.add(record(instance(1, 1, 2))) == Added(Outcome.SAME, 1)
        assert (answers(index), index.changes(0, 10)) == before

    def test_other_bytes_are_a_loose_version_and_counts_stay(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 3)
        seal(index, documents, STUDY, SERIES)
        new = instance(1, 1, 2, Rows=7)
        assert index.add(record(new)) == Added(Outcome.VERSION, 2)
        assert index.add(record(new)) == Added(Outcome.SAME, 2)
        newest = instance(1, 1, 2, Rows=9)
        assert index.add(record(newest)) == Added(Outcome.VERSION, 3)
        [stored] = index.locate(scope_of(newest))
        assert (stored.digest, stored.revision, stored.blocks) == (newest.digest, 3, None)
        assert [data for _, data in index.metadata(scope_of(newest))] == [newest.metadata]
        assert firsts(index, ask(Level.STUDY), "NumberOfStudyRelatedInstances") == [3]
        assert index.backlog().instances == 2
        assert index.changes(0, 10)[-1].revision == 3
        before = answers(index)
        seal(index, documents, STUDY, SERIES)
        assert answers(index) == before
        assert index.add(record(instance(1, 1, 2), attempt="-1")) == Added(Outcome.VERSION, 4)

    def test_a_version_of_the_speaker_speaks(self, index: PackingIndex, documents: KeptDocuments) -> None:
        fill(index, 2)
        seal(index, documents, STUDY, SERIES)
        index.add(record(instance(1, 1, 1, PatientID="NEW", SOPClassUID="1.2.3")))
        assert firsts(index, ask(Level.STUDY, {"PatientID": "NEW"}), "PatientID") == ["NEW"]
        [row] = index.search(ask(Level.STUDY, include=frozenset({"00080062"}))).rows
        assert row["00080062"]["Value"] == ["1.2.3", samples.CT]

    def test_a_late_instance_is_counted_and_lies_loose(self, index: PackingIndex, documents: KeptDocuments) -> None:
        fill(index, 2)
        seal(index, documents, STUDY, SERIES)
        assert index.add(record(instance(1, 1, 3))) == Added(Outcome.NEW, 1)
        assert firsts(index, ask(Level.SERIES), "NumberOfSeriesRelatedInstances") == [3]
        [waiting] = index.unsealed(touched_before=soon(), bytes_from=1 << 60, limit=10)
        assert (waiting.series_uid, waiting.instances) == (SERIES, 1)


class TestRemove:
    def test_the_whole_study(self, index: PackingIndex, documents: KeptDocuments) -> None:
        fill(index, 3)
        fill(index, 2, series=2)
        packs = [seal(index, documents, STUDY, SERIES), seal(index, documents, STUDY, OTHER_SERIES)]
        index.add(record(instance(1, 1, 9)))
        removed = index.remove(Scope(STUDY))
        assert removed.instances == 6
        assert {pack.location for pack in packs} < set(removed.locations) and len(removed.locations) == 3
        assert {each.location.key for each in packs} < {each.key for each in index.doomed(soon(1), 100)}
        assert not list(index.packs()) and not index.search(ask(Level.STUDY)).rows
        assert not list(index.wasteful(10))
        with pytest.raises(NotFound):
            index.locate(Scope(STUDY))

    def test_an_instance_leaves_the_rest_and_makes_its_pack_wasteful(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 4)
        pack = seal(index, documents, STUDY, SERIES)
        removed = index.remove(Scope(STUDY, SERIES, sop(2)))
        assert (removed.instances, removed.locations) == (1, ())
        assert [each.identity.sop_uid for each in index.locate(Scope(STUDY))] == [sop(1), sop(3), sop(4)]
        assert [len(data) > 0 and identity.sop_uid for identity, data in index.metadata(Scope(STUDY))] == [
            sop(1),
            sop(3),
            sop(4),
        ]
        [wasteful] = index.wasteful(10)
        assert wasteful == one_pack(index, STUDY)
        assert wasteful.instances == (pack.instances[0], *pack.instances[2:]) and wasteful.positions == (0, 2, 3)
        with pytest.raises(NotFound):
            index.contents(Scope(STUDY, SERIES, sop(2)))
        assert index.add(record(instance(1, 1, 2), attempt="-1")) == Added(Outcome.NEW, 1)

    def test_all_versions_go_wherever_they_lie(self, index: PackingIndex, documents: KeptDocuments) -> None:
        fill(index, 2)
        seal(index, documents, STUDY, SERIES, most=1)
        index.add(record(instance(1, 1, 1, Rows=7)))
        seal(index, documents, STUDY, SERIES, most=1)
        index.add(record(instance(1, 1, 1, Rows=9)))
        index.add(record(instance(1, 1, 1, Rows=11)))
        removed = index.remove(Scope(STUDY, SERIES, sop(1)))
        assert removed.instances == 1 and len(removed.locations) == 4  # two packs with nothing else, two loose
        assert [each.identity.sop_uid for each in index.locate(Scope(STUDY))] == [sop(2)]
        assert index.add(record(instance(1, 1, 1), attempt="-1")) == Added(Outcome.NEW, 1)

    def test_the_next_speaker_may_lie_in_a_pack(self, index: PackingIndex, documents: KeptDocuments) -> None:
        for number in (1, 2, 3):
            index.add(record(instance(1, 1, number, PatientID=f"P{number}", Modality=f"M{number}")))
        index.add(record(instance(1, 2, 1, PatientID="P9", Modality="M9")))
        seal(index, documents, STUDY, SERIES)
        seal(index, documents, STUDY, OTHER_SERIES)
        index.remove(Scope(STUDY, SERIES, sop(1)))
        assert firsts(index, ask(Level.STUDY, {"PatientID": "P2", "ModalitiesInStudy": "M2"}), "PatientID") == ["P2"]
        index.remove(Scope(STUDY, SERIES))
        assert firsts(index, ask(Level.STUDY, {"PatientID": "P9", "ModalitiesInStudy": "M9"}), "PatientID") == ["P9"]

    def test_nothing_is_removed_when_the_metadata_of_the_next_speaker_cannot_be_read(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 3)
        seal(index, documents, STUDY, SERIES)
        before, kept = answers(index), documents.kept
        documents.kept = {}
        with pytest.raises(Unavailable):
            index.remove(Scope(STUDY, SERIES, sop(1)))
        documents.kept = kept
        assert answers(index) == before
        index.remove(Scope(STUDY, SERIES, sop(1)))


class TestRepack:
    def test_what_is_left_moves_and_the_old_object_is_doomed(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 4)
        old = seal(index, documents, STUDY, SERIES)
        index.remove(Scope(STUDY, SERIES, sop(2)))
        before = answers(index)
        [wasteful] = index.wasteful(10)
        new = compact(index, documents, wasteful)
        assert answers(index) == before
        assert one_pack(index, STUDY) == new and not list(index.wasteful(10))
        assert old.location.key in {each.key for each in index.doomed(soon(1), 100)}
        assert new.location.key not in {each.key for each in index.doomed(soon(9999), 100)}

    def test_what_changed_meanwhile_is_a_conflict(self, index: PackingIndex, documents: KeptDocuments) -> None:
        fill(index, 4)
        seal(index, documents, STUDY, SERIES)
        index.remove(Scope(STUDY, SERIES, sop(2)))
        [wasteful] = index.wasteful(10)
        index.remove(Scope(STUDY, SERIES, sop(3)))
        before = answers(index)
        for new in (pack_of(STUDY, SERIES, wasteful.instances), None):
            if new is not None:
                index.doom([new.location], soon())
            with pytest.raises(Conflict):
                index.repack([wasteful], new)
        assert answers(index) == before
        index.remove(Scope(STUDY))
        with pytest.raises(Conflict):
            index.repack([wasteful], None)


class TestMerge:
    def trickled(self, index: PackingIndex, documents: KeptDocuments, count: int = 9) -> list[Pack]:
        """A series that came one by one, in no order, and another with one pack."""
        for number in sorted(range(1, count + 1), key=lambda n: (n % 3, n)):
            index.add(record(instance(1, 1, number)))
            seal(index, documents, STUDY, SERIES)
        fill(index, 1, series=2)
        seal(index, documents, STUDY, OTHER_SERIES)
        return list(index.packs(Scope(STUDY, SERIES)))

    def test_nothing_that_readers_see_changes(self, index: PackingIndex, documents: KeptDocuments) -> None:
        packs = self.trickled(index, documents)
        before = answers(index)
        assert index.crowded(10) == [Scope(STUDY, SERIES)]
        new = merge(index, documents, packs)
        assert answers(index) == before
        assert index.crowded(10) == []
        assert one_pack(index, STUDY, SERIES) == new
        assert {each.key for each in index.doomed(soon(1), 100)} >= {pack.location.key for pack in packs}
        assert new.location.key not in {each.key for each in index.doomed(soon(9999), 100)}

    def test_what_is_merged_can_be_removed_and_grows_again(self, index: PackingIndex, documents: KeptDocuments) -> None:
        merge(index, documents, self.trickled(index, documents)[2:])
        assert len(list(index.packs(Scope(STUDY, SERIES)))) == 3
        assert index.add(record(instance(1, 1, 9))) == Added(Outcome.SAME, 1)
        assert index.add(record(instance(1, 1, 10))) == Added(Outcome.NEW, 1)
        seal(index, documents, STUDY, SERIES)
        merge(index, documents, list(index.packs(Scope(STUDY, SERIES))))
        assert len(one_pack(index, STUDY, SERIES).instances) == 10
        index.remove(Scope(STUDY, SERIES))
        assert index.search(ask(Level.INSTANCE)).rows and not list(index.packs(Scope(STUDY, SERIES)))
        index.remove(Scope(STUDY))
        assert not index.search(ask(Level.STUDY)).rows

    def test_few_packs_and_large_ones_are_not_crowded(self, index: PackingIndex, documents: KeptDocuments) -> None:
        self.trickled(index, documents, 7)
        assert index.crowded(10) == []
        for number in range(8, 11):
            index.add(record(instance(1, 1, number)))
            [loose] = index.loose(STUDY, SERIES)
            pack, places = packed_loose(STUDY, SERIES, [loose], documents)
            large = replace(pack.location, length=128 << 20)
            pack = replace(pack, location=large, blocks=replace(pack.blocks, length=128 << 20))
            index.doom([pack.location], soon())
            index.seal(pack, places)
        assert index.crowded(10) == []

    def test_confirmed_copies_are_doomed_and_the_new_one_is_copied_anew(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        packs = self.trickled(index, documents)
        for pack in packs[:5]:
            index.copied(pack, "copy")
        new = merge(index, documents, packs)
        copies = {each.key for each in index.doomed(soon(1), 100, store="copy")}
        assert copies == {pack.location.key for pack in packs[:5]}
        assert new.location.key in {pack.location.key for pack in index.uncopied("copy", 10)}

    def test_what_changed_meanwhile_is_a_conflict(self, index: PackingIndex, documents: KeptDocuments) -> None:
        packs = self.trickled(index, documents)
        new = pack_of(STUDY, SERIES, [one for pack in packs for one in pack.instances])
        index.doom([new.location], soon())
        index.remove(Scope(STUDY, SERIES, packs[4].instances[0].sop_uid))
        before = answers(index)
        with pytest.raises(Conflict):
            index.repack(packs, new)
        assert answers(index) == before
        assert len(list(index.packs(Scope(STUDY, SERIES)))) == len(packs) - 1
        assert packs[0].location.key not in {each.key for each in index.doomed(soon(1), 100)}
        merge(index, documents, packs[:4] + packs[5:])
        before = answers(index)
        with pytest.raises(Conflict):
            index.repack(packs[:2], new)
        assert answers(index) == before


class TestAdopt:
    def rebuilt(self, opened: Open, index: PackingIndex, documents: KeptDocuments) -> PackingIndex:
        """Another index of the packs alone."""
        adopted = [(pack, list(documents.documents(pack))) for pack in index.packs()]
        index.remove(Scope(STUDY))
        for pack, _ in adopted:
            index.respite(pack.location, soon())
        for pack, found in reversed(adopted):
            index.adopt(pack, found)
        for pack, found in adopted:
            index.adopt(pack, found)
        return index

    def test_it_answers_as_if_the_instances_had_been_stored(
        self, opened: Open, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        for number in (5, 3, 4):
            index.add(record(instance(1, 1, number, PatientID=f"P{number}", Modality=f"M{number}")))
        seal(index, documents, STUDY, SERIES)
        index.add(record(instance(1, 1, 4, PatientID="P4", Rows=7)))
        index.add(record(instance(1, 1, 3, PatientID="NEW", SOPClassUID="1.2.3")))
        index.add(record(instance(1, 1, 6, PatientID="P6")))
        seal(index, documents, STUDY, SERIES)
        index.add(record(instance(1, 2, 1, PatientID="P9", Modality="M9")))
        seal(index, documents, STUDY, OTHER_SERIES)
        before, packs = answers(index), list(index.packs())
        again = self.rebuilt(opened, index, documents)
        assert answers(again) == before
        assert list(again.packs()) == packs
        assert firsts(again, ask(Level.STUDY, {"PatientID": "NEW"}), "PatientID") == ["NEW"]
        assert again.add(record(instance(1, 1, 5, PatientID="P5", Modality="M5"))).outcome is Outcome.SAME
        again.remove(Scope(STUDY, SERIES, sop(3)))
        assert firsts(again, ask(Level.STUDY), "PatientID") == ["P4"]

    def test_a_pack_of_which_some_are_to_be_left_out_is_wasteful(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 3)
        pack = seal(index, documents, STUDY, SERIES)
        index.remove(Scope(STUDY))
        index.respite(pack.location, soon())
        partly = replace(pack, instances=(pack.instances[0], pack.instances[2]), positions=(0, 2))
        index.adopt(partly, documents.documents(partly))
        assert [each.identity.sop_uid for each in index.locate(Scope(STUDY))] == [sop(1), sop(3)]
        assert list(index.wasteful(10)) == [partly]
        assert len(list(index.metadata(Scope(STUDY)))) == 2

    def test_loose_instances_step_back_behind_the_same_in_a_pack(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 3)
        before = answers(index)
        pack, _ = packed_loose(STUDY, SERIES, list(index.loose(STUDY, SERIES))[:2], documents)
        index.adopt(pack, documents.documents(pack))
        assert answers(index) == before
        assert [each.blocks is not None for each in index.locate(Scope(STUDY))] == [True, True, False]
        assert firsts(index, ask(Level.STUDY), "NumberOfStudyRelatedInstances") == [3]
        assert index.backlog().instances == 1
        doomed = [each.key for each in index.doomed(soon(1), 10)]
        assert sorted(doomed) == sorted(record(instance(1, 1, number)).location.key for number in (1, 2))

    def test_other_versions_step_back_and_newer_ones_do_not(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 3)
        index.add(record(instance(1, 1, 3, Rows=9)))
        loose = list(index.loose(STUDY, SERIES))[:3]
        other = [replace(each, packed=replace(each.packed, digest=b"o" * 32)) for each in loose]
        other[0] = replace(other[0], packed=replace(other[0].packed, revision=5))
        pack, _ = packed_loose(STUDY, SERIES, other, documents)
        index.adopt(pack, documents.documents(pack))
        located = index.locate(Scope(STUDY))
        assert [each.revision for each in located] == [5, 1, 2]
        assert [each.blocks is None for each in located] == [False, False, True]
        assert firsts(index, ask(Level.STUDY), "NumberOfStudyRelatedInstances") == [3]
        assert index.backlog().instances == 4
        seal(index, documents, STUDY, SERIES)
        assert [each.revision for each in index.locate(Scope(STUDY))] == [5, 1, 2]

    def test_a_pack_that_is_here_is_not_removed_when_it_is_sealed_once_more(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 2)
        loose = list(index.loose(STUDY, SERIES))
        pack, places = packed_loose(STUDY, SERIES, loose, documents)
        index.adopt(pack, documents.documents(pack))
        index.doom([pack.location], soon())
        with pytest.raises(Conflict):
            index.seal(pack, places)
        assert pack.location.key not in {each.key for each in index.doomed(soon(9999), 10)}
        assert one_pack(index, STUDY) == pack
        index.remove(Scope(STUDY))
        assert pack.location.key in {each.key for each in index.doomed(soon(9999), 10)}

    def test_one_who_comes_too_late_does_not_doom_what_another_has_sealed(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 2)
        pack, places = packed_loose(STUDY, SERIES, list(index.loose(STUDY, SERIES)), documents)
        index.doom([pack.location], soon())
        index.seal(pack, places)
        index.doom([pack.location], soon())
        with pytest.raises(Conflict):
            index.seal(pack, places)
        assert {each.store for each in index.doomed(soon(9999), 10)} == {"spool"}


class TestWhatIsToBeDone:
    def test_the_backlog_counts_what_lies_loose(self, index: PackingIndex, documents: KeptDocuments) -> None:
        empty = index.backlog()
        assert (empty.series, empty.instances, empty.bytes, empty.oldest_at) == (0, 0, 0, None)
        fill(index, 3)
        index.add(record(instance(1, 1, 3, Rows=7)))
        fill(index, 1, series=2)
        backlog = index.backlog()
        assert (backlog.series, backlog.instances, backlog.bytes) == (2, 5, 5000)
        assert backlog.oldest_at is not None and backlog.oldest_at <= soon(0)
        seal(index, documents, STUDY, SERIES)
        assert index.backlog().instances == 1
        index.remove(Scope(STUDY))
        assert index.backlog() == empty

    def test_series_wait_by_age_or_size(self, index: PackingIndex) -> None:
        fill(index, 3)
        fill(index, 1, series=2)
        everything = index.unsealed(touched_before=soon(), bytes_from=1 << 60, limit=10)
        assert [each.series_uid for each in everything] == [SERIES, OTHER_SERIES]
        assert [(each.instances, each.bytes) for each in everything] == [(3, 3000), (1, 1000)]
        assert index.unsealed(touched_before=soon(), bytes_from=0, limit=1) == everything[:1]
        touched = everything[1].touched_at
        assert index.unsealed(touched_before=touched, bytes_from=1 << 60, limit=9) == everything[:1]
        assert not index.unsealed(touched_before=0, bytes_from=3001, limit=9)
        assert index.unsealed(touched_before=0, bytes_from=3000, limit=9) == everything[:1]

    def test_loose_instances_have_all_that_a_pack_keeps(self, index: PackingIndex) -> None:
        made = record(instance(1, 1, 2), received_at=77, source="dimse:CT1")
        made = replace(made, instance=replace(made.instance, repair="ISO_IR 100 read as GB18030"))
        index.add(made)
        [loose] = index.loose(STUDY, SERIES)
        packed = loose.packed
        assert (loose.location, loose.metadata) == (made.location, made.instance.metadata)
        assert (packed.offset, packed.length, packed.header_length) == (0, 1000, made.instance.header_length)
        assert (packed.digest, loose.header_digest) == (made.instance.digest, made.instance.header_digest)
        assert (packed.received_at, packed.source, packed.repair) == (77, "dimse:CT1", made.instance.repair)
        assert (packed.frames, packed.bulk) == (made.instance.frames, dict(made.instance.bulk))
        assert not list(index.loose(STUDY, OTHER_SERIES))

    def test_of_loose_versions_it_is_told_which_are_superseded(self, index: PackingIndex) -> None:
        index.add(record(instance(1, 1, 1)))
        index.add(record(instance(1, 1, 2)))
        index.add(record(instance(1, 1, 1, Rows=7, InstanceNumber=9)))
        index.add(record(instance(1, 1, 2, Rows=7, InstanceNumber=0)))
        found = [(each.packed.sop_uid, each.packed.revision, each.superseded) for each in index.loose(STUDY, SERIES)]
        assert found == [(sop(2), 2, False), (sop(1), 1, True), (sop(2), 1, True), (sop(1), 2, False)]

    def test_each_loose_version_keeps_the_digest_of_its_own_header(self, index: PackingIndex) -> None:
        versions = [instance(1, 1, 1, Rows=number) for number in range(1, 4)]
        for number, made in enumerate(versions, start=1):
            index.add(record(replace(made, header_digest=bytes([number]) * 16), received_at=number))
        older = replace(instance(1, 1, 1, Rows=9), header_digest=b"o" * 16)
        assert index.bring_back(record(older, received_at=1)).outcome is Outcome.OLDER
        found = {each.packed.revision: each.header_digest for each in index.loose(STUDY, SERIES)}
        assert found == {0: b"o" * 16} | {number: bytes([number]) * 16 for number in range(1, 4)}
        [served] = index.locate(Scope(STUDY))
        assert served.header_digest == b"\3" * 16

    def test_what_is_loose_is_read_while_it_changes(self, index: PackingIndex) -> None:
        for number in range(1, 101):
            index.add(record(instance(1, 1, number)))
        reading = index.loose(STUDY, SERIES)
        got = [next(reading).packed]
        index.remove(Scope(STUDY, SERIES, sop(100)))
        index.add(record(instance(1, 1, 99, Rows=7)))
        got += [each.packed for each in reading]
        assert [(each.sop_uid, each.revision) for each in got] == [(sop(number), 1) for number in range(1, 100)]

    def test_packs_come_by_study_series_and_pack(self, index: PackingIndex, documents: KeptDocuments) -> None:
        made: list[Pack] = []
        for study in (2, 1, 3):
            for series in (2, 1):
                for number in (1, 2):
                    index.add(record(instance(study, series, number)))
                    uids = f"{samples.ROOT}.{study}", f"{samples.ROOT}.{study}.{series}"
                    made.append(seal(index, documents, *uids))
        made.sort(key=lambda pack: (pack.study_uid, pack.series_uid, pack.pack_id))
        assert list(index.packs()) == made
        assert list(index.packs(Scope(STUDY))) == made[:4]
        assert list(index.packs(Scope(STUDY, OTHER_SERIES))) == made[2:4]
        assert not list(index.packs(Scope("1.2")))

    def test_packs_that_are_removed_meanwhile_are_not_taken_for_those_that_came_after_them(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 2)
        packs = [seal(index, documents, STUDY, SERIES, most=1), seal(index, documents, STUDY, SERIES)]
        listed = index.packs()
        seen = [next(listed)]
        index.remove(Scope(STUDY))
        for number in (1, 2, 3):
            index.add(record(instance(2, 1, number)))
            seal(index, documents, f"{samples.ROOT}.2", f"{samples.ROOT}.2.1")
        seen += listed
        assert {pack.study_uid for pack in seen if pack not in packs} <= {f"{samples.ROOT}.2"}
        assert all(one.sop_uid.startswith(f"{pack.series_uid}.") for pack in seen for one in pack.instances)

    def test_copies_are_asked_for_until_they_are_confirmed(self, index: PackingIndex, documents: KeptDocuments) -> None:
        fill(index, 2)
        packs = [seal(index, documents, STUDY, SERIES, most=1), seal(index, documents, STUDY, SERIES)]
        assert list(index.uncopied("copy", 10)) == packs and list(index.uncopied("copy", 1)) == packs[:1]
        assert not index.is_copied(packs[0], "copy")
        places = [replace(pack.location, store="copy") for pack in packs]
        index.doom(places, soon())
        index.copied(packs[0], "copy")
        assert [each.key for each in index.doomed(soon(9999), 10, store="copy")] == [places[1].key]
        index.copied(replace(packs[1], pack_id="another"), "copy")
        assert [each.key for each in index.doomed(soon(9999), 10, store="copy")] == [places[1].key], (
            "a pack that is gone"
        )
        assert [index.is_copied(each, "copy") for each in packs] == [True, False]
        assert not index.is_copied(packs[0], "another")
        assert list(index.uncopied("copy", 10)) == packs[1:]
        index.copied(packs[1], "copy")
        index.copied(replace(packs[1], pack_id="another"), "copy")
        assert not list(index.uncopied("copy", 10)) and len(list(index.uncopied("another", 10))) == 2
        assert list(index.uncopied("another", 1, besides={packs[0].location.key})) == packs[1:]
        index.remove(Scope(STUDY, SERIES, sop(1)))
        index.copied(packs[0], "copy")

    def test_a_compacted_pack_is_copied_anew(self, index: PackingIndex, documents: KeptDocuments) -> None:
        fill(index, 2)
        index.copied(seal(index, documents, STUDY, SERIES), "copy")
        index.remove(Scope(STUDY, SERIES, sop(1)))
        assert list(index.uncopied("copy", 10)) == []
        new = compact(index, documents, next(index.wasteful(1)))
        assert list(index.uncopied("copy", 10)) == [new]

    def test_a_pack_is_named_by_its_key_for_as_long_as_it_is_here(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 2)
        old, places = packed_loose(STUDY, SERIES, list(index.loose(STUDY, SERIES)), documents)
        index.doom([old.location], soon())
        assert not index.names(old.location.key)
        index.seal(old, places)
        assert index.names(old.location.key)
        index.remove(Scope(STUDY, SERIES, sop(1)))
        new = compact(index, documents, one_pack(index, STUDY))
        assert index.names(new.location.key) and not index.names(old.location.key)
        index.remove(Scope(STUDY))
        assert not index.names(new.location.key)

    def test_a_copy_that_was_confirmed_is_doomed_with_its_pack(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 2)
        old = seal(index, documents, STUDY, SERIES)
        index.copied(old, "copy")
        index.remove(Scope(STUDY, SERIES, sop(1)))
        new = compact(index, documents, one_pack(index, STUDY))
        assert [each.key for each in index.doomed(soon(), 10, store="copy")] == [old.location.key]
        index.copied(new, "copy")
        index.remove(Scope(STUDY))
        keys = {old.location.key, new.location.key}
        assert {each.key for each in index.doomed(soon(), 10, store="copy")} == keys
        assert {each.key for each in index.doomed(soon(), 10, store="archive")} == keys
        assert len(index.doomed(soon(), 1, store="copy")) == 1 and not index.doomed(soon(), 10, store="another")

    def test_what_is_to_be_compacted_is_read_one_pack_at_a_time(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        for series in (1, 2, 3):
            fill(index, 2, series)
            series_uid = f"{STUDY}.{series}"
            seal(index, documents, STUDY, series_uid)
            index.remove(Scope(STUDY, series_uid, sop(1, series_uid)))
        keys = {pack.location.key for pack in index.packs()}
        reading = index.wasteful(10)
        first_key = next(reading).location.key
        assert {pack.location.key for pack in index.wasteful(10, besides={first_key})} == keys - {first_key}
        assert len(list(index.wasteful(1, besides={first_key}))) == 1
        compact(index, documents, next(index.wasteful(1, besides={first_key})))
        assert len(list(reading)) == 1, "what is gone by then is left out"

    def test_a_respite_puts_a_removal_off(self, index: PackingIndex) -> None:
        place, now = Location("archive", "packs/local/1.2/1.3/00.zip", 0, 10), soon(0)
        for due_at in (now + HOUR, now - HOUR, now + HOUR):
            index.respite(place, due_at)
            assert len(index.doomed(due_at + 1, 10)) == 1 and not index.doomed(due_at, 10)
        index.doom([place], now)
        assert len(index.doomed(now + 1, 10)) == 1

    def test_doomed_objects_are_named_until_they_are_gone(self, index: PackingIndex) -> None:
        places = [Location("spool", f"k{number}", 0, 10) for number in range(3)]
        now = soon(0)
        for number, place in enumerate(places):
            index.doom([place], now - HOUR * number)
        index.doom(places[:1], now + HOUR)  # stays as early as it was
        assert [each.key for each in index.doomed(now + 1, 10)] == ["k2", "k1", "k0"]
        assert [each.key for each in index.doomed(now + 1, 2)] == ["k2", "k1"]
        assert [each.key for each in index.doomed(now - HOUR + 1, 10)] == ["k2", "k1"]
        index.forget([*places[1:], places[1]])
        assert [(each.store, each.key) for each in index.doomed(now + 1, 10)] == [("spool", "k0")]

    def test_what_is_doomed_of_a_study_or_series_is_found_among_all(self, index: PackingIndex) -> None:
        now = soon(0)
        loose = [f"spool/1.2/1.2.{series}/1.2.{number}.{number:012x}.dcm" for series in (3, 30) for number in range(9)]
        packs = [f"packs/{custodian}/1.2/1.2.{series}/{7:032x}.zip" for custodian in ("a", "b0") for series in (3, 30)]
        others = ["spool/1.20/1.2.3/1.2.1.000000000000.dcm", "spool/1.1/1.2.3/1.2.1.000000000000.dcm", "zzz", "-"]
        others += ["packs/a/1.1/1.2.3/07.zip", "packs/a/1.20/1.2.3/07.zip", "packs/c/1.3/1.2.3/07.zip", "packs/odd"]
        index.doom([Location("spool", key, 0, 1) for key in loose + others], now)
        index.doom([Location(store, key, 0, 1) for store in ("archive", "copy") for key in packs + others], now + HOUR)
        found = [(one.store, one.key) for one in index.doomed_of(Scope("1.2"))]
        assert found == [(store, key) for store in ("archive", "copy") for key in sorted(packs)] + [
            ("spool", key) for key in sorted(loose)
        ]
        of_series = {one.key for one in index.doomed_of(Scope("1.2", "1.2.3"))}
        assert of_series == {key for key in loose + packs if "/1.2.3/" in key}
        assert {one.key for one in index.doomed_of(Scope("1.2"), due_before=now + 1)} == set(loose)
        assert list(index.doomed_of(Scope("1.2.3"))) == []
        index.forget(index.doomed(soon(9999), 1000))
        assert list(index.doomed_of(Scope("1.2"))) == []

    def test_what_is_doomed_of_a_study_is_read_in_pages(self, index: PackingIndex) -> None:
        keys_of_study = [f"spool/1.2/1.3/1.4.{number:012x}.dcm" for number in range(2100)]
        index.doom([Location("spool", key, 0, 1) for key in keys_of_study], soon(0))
        reading = index.doomed_of(Scope("1.2"))
        first = next(reading)
        index.forget([Location("spool", key, 0, 1) for key in keys_of_study[1500:1600]])
        rest = [one.key for one in reading]
        assert [first.key, *rest] == keys_of_study[:1500] + keys_of_study[1600:]

    def test_what_is_overdue_is_counted_by_store(self, index: PackingIndex) -> None:
        now = soon(0)
        for number, store in enumerate(("spool", "spool", "copy", "copy")):
            index.doom([Location(store, f"k{number}", 0, 1)], now + number)
        assert index.overdue(now) == []
        assert index.overdue(now + 3) == [Overdue("copy", 1, now + 2), Overdue("spool", 2, now)]

    def test_a_loose_object_that_is_named_is_not_doomed(self, index: PackingIndex, documents: KeptDocuments) -> None:
        made = [instance(1, 1, 1), instance(1, 1, 1, PatientName="Other"), instance(1, 1, 2)]
        served, older, unnamed = (
            replace(record(each), location=Location("spool", keys.spool(each.identity, each.digest), 0, 10))
            for each in (made[1], made[0], made[2])
        )
        index.add(older)
        index.add(served)
        index.doom([each.location for each in (served, older, unnamed)], soon(0))
        assert [each.key for each in index.doomed(soon(1), 10)] == [unnamed.location.key]
        with pytest.raises(Conflict):
            index.add(unnamed)
        seal(index, documents, STUDY, SERIES)
        assert len(index.doomed(soon(1), 10)) == 3

    def test_a_lease_has_one_holder(self, index: PackingIndex) -> None:
        assert index.lease("seal/1", "a", 3600) and index.lease("seal/1", "a", 3600)
        assert not index.lease("seal/1", "b", 3600) and index.lease("seal/2", "b", 3600)
        index.release("seal/1", "b")
        assert not index.lease("seal/1", "b", 3600)
        index.release("seal/1", "a")
        assert index.lease("seal/1", "b", 3600)

    def test_a_lease_that_has_run_out_is_free(self, index: PackingIndex) -> None:
        assert index.lease("seal", "a", 0)
        assert index.lease("seal", "b", 3600) and not index.lease("seal", "a", 3600)

    def test_only_a_lease_that_is_still_held_is_renewed(self, index: PackingIndex) -> None:
        assert not index.renew("seal", "a", 3600) and index.lease("seal", "b", 0), "a free one is not taken"
        assert index.renew("seal", "b", 0), "it had run out, but nobody has had it since"
        assert index.lease("seal", "a", 3600) and not index.renew("seal", "b", 3600)
        index.release("seal", "a")
        assert not index.renew("seal", "a", 3600) and not index.renew("seal", "b", 3600)
        assert index.lease("seal", "c", 3600)
        assert index.renew("seal", "c", 0) and index.lease("seal", "d", 3600), "renewed for as long as is said"

    def test_leases_do_not_go_by_the_clock_of_a_gateway(
        self, index: PackingIndex, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert index.lease("seal", "a", 3600)
        monkeypatch.setattr(feed, "now", lambda: soon(7200))
        assert not index.lease("seal", "b", 3600)

    def test_of_many_who_ask_for_a_lease_one_has_it(self, opened: Open) -> None:
        indexes = [opened(), opened()]
        with ThreadPoolExecutor(8) as pool:
            had = list(pool.map(lambda n: indexes[n % 2].lease("seal", str(n), 3600), range(16)))
        assert sum(had) == 1


class TestMetadataFromPacks:
    def test_an_instance_that_is_compacted_while_it_is_read_is_found_in_its_new_place(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 4)
        fill(index, 4, series=2)
        seal(index, documents, STUDY, SERIES)
        seal(index, documents, STUDY, OTHER_SERIES)
        whole = list(index.metadata(Scope(STUDY)))
        reading = index.metadata(Scope(STUDY))
        got = [next(reading)]
        index.remove(Scope(STUDY, OTHER_SERIES, sop(2, OTHER_SERIES)))
        [wasteful] = index.wasteful(1)
        compact(index, documents, wasteful)
        del documents.kept[wasteful.location]
        got += list(reading)
        assert got == [each for each in whole if each[0].sop_uid != sop(2, OTHER_SERIES)]

    def test_an_instance_that_is_sealed_while_it_is_read_is_found_in_the_pack(
        self, index: PackingIndex, documents: KeptDocuments
    ) -> None:
        fill(index, 100)
        whole = list(index.metadata(Scope(STUDY)))
        reading = index.metadata(Scope(STUDY))
        got = [next(reading)]
        seal(index, documents, STUDY, SERIES)
        assert got + list(reading) == whole
        assert documents.reads == 1

    def test_metadata_that_a_pack_does_not_give_is_unavailable(self, opened: Open, documents: KeptDocuments) -> None:
        index = opened(documents)
        fill(index, 2)
        pack = seal(index, documents, STUDY, SERIES)
        documents.kept[pack.location].pop()
        with pytest.raises(Unavailable):
            list(index.metadata(Scope(STUDY)))
        documents.kept.clear()
        with pytest.raises(Unavailable):
            list(index.metadata(Scope(STUDY)))
        with pytest.raises(Unavailable, match="metadata of packs"):
            list(opened().metadata(Scope(STUDY)))

    def test_a_long_series_is_one_read_of_its_pack(self, index: PackingIndex, documents: KeptDocuments) -> None:
        for number in range(1, 90):
            index.add(record(json_instance(instance(1, 1, number).dataset)))
        seal(index, documents, STUDY, SERIES)
        assert sum(1 for _ in index.metadata(Scope(STUDY))) == 89
        assert documents.reads == 1
        assert first(index.search(ask(Level.STUDY)).rows[0], "NumberOfStudyRelatedInstances") == 89
