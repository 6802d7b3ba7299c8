"""Every figure of the benchmark: what is put on the server for it, and how much of it."""

import calendar
import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from bench import data, floor, jobs, upkeep
from bench.data import CT_STUDY, SERIES, SLICES, Study, fresh_study, small_study, uid
from bench.dicom import Instance
from bench.load import Job
from bench.server import Server

PACKED = 200  # instances in each of the packs


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is sent and asked."""

    studies: int  # small studies that are searched
    slices: int  # of each of the three CT series
    small: int  # small instances sent over each association
    requests: int  # of each kind of search and retrieval
    seconds: float  # at most for each of these
    large_mib: int  # size of the one large object
    packs: int  # sealed series, of PACKED small instances each, from which the index is rebuilt


FULL = Scale(studies=2000, slices=200, small=600, requests=500, seconds=5, large_mib=2048, packs=100)
QUICK = Scale(studies=300, slices=40, small=100, requests=60, seconds=1, large_mib=256, packs=10)


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that is measured. `needs` is what must have been stored before: "small", "ct", "packs" or nothing."""

    name: str
    jobs: Callable[[Server], list[Job]]
    needs: str = ""
    seconds: float = 600.0
    once: bool = False  # not repeated: it takes long and repeats well


def all_figures(scale: Scale, folder: Path) -> list[Figure]:
    """In the order in which they are measured: searches first, while the small studies are all there is.

    `folder` lies on the disk whose own speed is measured too.
    """
    floors = [
        Figure("floor.additions", lambda _: [floor.additions]),
        Figure("floor.ct", lambda _: [floor.durable_files(folder, 525_000, scale.slices)]),
        Figure("floor.small", lambda _: [floor.durable_files(folder, 9_000, scale.small)]),
    ]
    rebuilding = Figure("reindex", lambda server: [upkeep.reindex(server)], needs="packs")
    return [*_searches(scale), *_retrievals(scale), *floors, *_stores(scale), rebuilding]


def preparations(scale: Scale, need: str) -> Callable[[Server], list[Job]]:
    """What stores the data that figures need."""
    if need == "ct":
        instances = functools.partial(data.ct_study, CT_STUDY, scale.slices)
        return lambda server: [jobs.c_store(server, instances)]
    if need == "packs":
        studies = [fresh_study() for _ in range(scale.packs)]
        return lambda server: [
            upkeep.sealed(server, functools.partial(_packed_series, studies[start::4])) for start in range(4)
        ]
    numbers = range(1, scale.studies + 1)
    return lambda server: [
        jobs.c_store(server, functools.partial(_small_studies, numbers[start::4])) for start in range(4)
    ]


def _small_studies(numbers: Iterable[int]) -> Iterable[Instance]:
    return (data.small_instance(number, series) for number in numbers for series in (1, 2))


def _packed_series(studies: Iterable[int]) -> Iterable[Instance]:
    return (data.small_instance(study, 1, number) for study in studies for number in range(1, PACKED + 1))


def _stores(scale: Scale) -> list[Figure]:
    figures = []
    for associations in (1, 4, 8):
        slices = 3 * scale.slices if associations == 1 else scale.slices // 2
        figures += [
            Figure(f"c-store.ct.{associations}", _side_by_side(associations, _ct_series, slices)),
            Figure(f"c-store.small.{associations}", _side_by_side(associations, _small_series, scale.small)),
        ]
    return [
        *figures,
        Figure("stow.ct.one-request", lambda server: [_stow(server, scale.slices, scale.slices)]),
        Figure("stow.ct.each-alone", lambda server: [_stow(server, scale.slices, 1)]),
        Figure("c-store.large", lambda server: [_large(server, scale.large_mib)], once=True),
    ]


def _side_by_side(
    associations: int, series: Callable[[int, int], Iterable[Instance]], count: int
) -> Callable[[Server], list[Job]]:
    return lambda server: [
        jobs.c_store(server, functools.partial(series, fresh_study(), count)) for _ in range(associations)
    ]


def _ct_series(study: int, count: int) -> Iterable[Instance]:
    return islice(data.ct_study(study), count)


def _small_series(study: int, count: int) -> Iterable[Instance]:
    return (data.small_instance(study, 1, number) for number in range(1, count + 1))


def _stow(server: Server, count: int, per_request: int) -> Job:
    return jobs.stow(server, functools.partial(_ct_series, fresh_study(), count), per_request)


def _large(server: Server, mib: int) -> Job:
    study = fresh_study()
    return jobs.c_store(server, lambda: [data.large_instance(study, mib)])


def _searches(scale: Scale) -> list[Figure]:
    studies = [small_study(number) for number in range(1, scale.studies + 1)]
    some = studies[:: max(1, len(studies) // 20)]
    kinds: dict[str, Sequence[tuple[str, Callable[[Study], bool]]]] = {
        "patient-id": [_by_patient_id(s) for s in some],
        "name-prefix": [_by_name_prefix(s) for s in some],
        "name-chinese": [_by_chinese_name(s) for s in some],
        "date-range": [_by_month(s) for s in some],
        "list-100": [(f"offset={n}", lambda _: True) for n in range(0, len(studies) - 100, 100)],
    }
    figures = []
    for kind, queries in kinds.items():
        requests = [
            jobs.Request(f"/studies?limit=100&{key}", results=min(100, sum(map(matches, studies))))
            for key, matches in queries
        ]
        figures.append(_reading(f"search.{kind}", requests, scale, "small"))
    return figures


Search = tuple[str, Callable[[Study], bool]]  # the key, and whether a study is to be found by it


def _by_patient_id(wanted: Study) -> Search:
    return f"PatientID={wanted.patient_id}", lambda study: study.patient_id == wanted.patient_id


def _by_name_prefix(wanted: Study) -> Search:
    prefix = wanted.latin_name[: wanted.latin_name.index("^") + 3]
    return f"PatientName={quote(prefix)}*", lambda study: study.latin_name.startswith(prefix)


def _by_chinese_name(wanted: Study) -> Search:
    surname = wanted.chinese_name.split("^")[0]
    return f"PatientName={quote(surname)}*", lambda study: study.chinese_name.startswith(surname)


def _by_month(wanted: Study) -> Search:
    month = wanted.date[:6]
    _, days = calendar.monthrange(int(month[:4]), int(month[4:]))
    return f"StudyDate={month}01-{month}{days}", lambda study: study.date.startswith(month)


def _retrievals(scale: Scale) -> list[Figure]:
    series = [f"/studies/{uid(CT_STUDY)}/series/{uid(CT_STUDY, number)}" for number in range(1, SERIES + 1)]
    slice_bytes = data.SIZE * data.SIZE * 2
    frames = [
        jobs.Request(
            f"{series[k % SERIES]}/instances/{uid(CT_STUDY, 1 + k % SERIES, 1 + 37 * k % scale.slices)}/frames/1",
            jobs.MULTIPART_FRAMES,
            least_bytes=slice_bytes,
        )
        for k in range(min(scale.slices, SLICES))
    ]
    metadata = [jobs.Request(f"{path}/metadata", results=scale.slices) for path in series]
    whole = [jobs.Request(path, jobs.MULTIPART_DICOM, least_bytes=scale.slices * slice_bytes) for path in series]
    return [
        _reading("metadata.series", metadata, scale, "ct"),
        _reading("frame.512k", frames, scale, "ct"),
        _reading("retrieve.series", whole, scale, "ct"),
        *_renderings(series, scale),
    ]


def _renderings(series: Sequence[str], scale: Scale) -> list[Figure]:
    """Pictures that nobody asked for before, and the same one again and again."""
    windows = itertools.count(1)  # each repetition has one of its own, so that nothing is there already

    def first(server: Server) -> list[Job]:
        query = f"rendered?window={40 + next(windows) / 100},400,linear"
        asked = [
            _picture(f"{series[k % SERIES]}/instances/{uid(CT_STUDY, 1 + k % SERIES, 1 + k // SERIES)}/{query}")
            for k in range(min(scale.requests, SERIES * scale.slices))
        ]
        return [jobs.get(server, asked[1:], len(asked) - 1, checked=asked[:1])]

    again = f"{series[0]}/instances/{uid(CT_STUDY, 1, 1)}/rendered"
    return [
        Figure("rendered.ct", first, needs="ct", seconds=scale.seconds),
        _reading("rendered.again", [_picture(again)], scale, "ct"),
        _reading("thumbnail.again", [_picture(f"{series[0]}/thumbnail")], scale, "ct"),
    ]


def _picture(path: str) -> jobs.Request:
    return jobs.Request(path, "image/jpeg", least_bytes=500)


def _reading(name: str, requests: Sequence[jobs.Request], scale: Scale, needs: str) -> Figure:
    return Figure(name, lambda server: [jobs.get(server, requests, scale.requests)], needs=needs, seconds=scale.seconds)
