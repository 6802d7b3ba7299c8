"""The data of the benchmark, made up: nobody's images, nobody's names. `python -m bench.data FOLDER` writes files."""

import argparse
import datetime
import itertools
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from bench.dicom import Element, Instance, dataset, element

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
MULTIFRAME_CLASS = "1.2.840.10008.5.1.4.1.1.7.2"
SERIES, SLICES, SIZE = 3, 200, 512
SMALL_SIZE = 64
BLOCK_BYTES = 1 << 20
SURNAMES = "Wang 王,Li 李,Zhang 张,Liu 刘,Chen 陈,Yang 杨,Zhao 赵,Huang 黄,Zhou 周,Wu 吴,Xu 徐,Ouyang 欧阳,Sima 司马"
GIVEN_NAMES = "Wei 伟,Fang 芳,XiuYing 秀英,Min 敏,Jing 静,Qiang 强,Lei 磊,ZiHan 梓涵,HaoRan 浩然,JianGuo 建国"
MODALITIES = [("CT", "胸部CT平扫"), ("MR", "头颅MR平扫"), ("CR", "胸部正位"), ("US", "腹部超声")]
FIRST_DAY, DAYS = datetime.date(2021, 1, 1), 1800
RUN = 10**11 + secrets.randbelow(9 * 10**11)  # in every UID and PatientID, so that each run brings new studies
CT_STUDY = 1_000_000  # the study that is read back; the small ones, which are searched, count from 1
_fresh = itertools.count(CT_STUDY + 1)


def prepare() -> None:
    """Make the pixels now, so that every process forked later finds them there."""
    _volume()
    _small_pixels()


def fresh_study() -> int:
    """The number of a study that nothing was stored under before."""
    return next(_fresh)


def uid(study: int, series: int | None = None, number: int | None = None) -> str:
    """The UID of a study, of one of its series, or of an instance of that series."""
    return ".".join(str(part) for part in ("2.25", RUN, study, series, number) if part is not None)


@dataclass(frozen=True, slots=True)
class Study:
    """What is true of one small study, so that what a search finds can be checked."""

    number: int
    patient_id: str
    latin_name: str
    chinese_name: str
    date: str
    modality: str
    description: str


@cache
def small_study(number: int) -> Study:
    """The small study of this number; the same in every run but for its UIDs and PatientID."""
    pick = random.Random(number)
    surname, chinese_surname = pick.choice(SURNAMES.split(",")).split()
    given, chinese_given = pick.choice(GIVEN_NAMES.split(",")).split()
    modality, description = pick.choice(MODALITIES)
    day = FIRST_DAY + datetime.timedelta(days=pick.randrange(DAYS))
    return Study(
        number=number,
        patient_id=f"P{RUN}{number:07d}",
        latin_name=f"{surname}^{given}",
        chinese_name=f"{chinese_surname}^{chinese_given}",
        date=f"{day:%Y%m%d}",
        modality=modality,
        description=description,
    )


def small_instance(study: int, series: int = 1, number: int = 1) -> Instance:
    """An instance of some 8 KB."""
    about = small_study(study)
    elements = _identity(CT_CLASS, study, series, number)
    elements += _patient(about.patient_id, f"{about.latin_name}={about.chinese_name}", about.date)
    elements += [
        (0x00080060, "CS", about.modality),
        (0x00081030, "LO", about.description),
        (0x0008103E, "LO", f"序列 {series}"),
        *_image(SMALL_SIZE, SMALL_SIZE),
    ]
    return _instance(CT_CLASS, study, series, number, elements, [_small_pixels()])


def ct_slice(study: int, series: int, number: int) -> Instance:
    """One slice of a chest CT: 512 KB of pixels below a header such as scanners write."""
    position = round(1.25 * number, 2)
    elements = _identity(CT_CLASS, study, series, number)
    elements += _patient(f"P{RUN}{study:07d}", "Wang^XiaoDong=王^小东=wang^xiaodong", "20260311")
    elements += _scanner(study, series)
    elements += [
        (0x00200032, "DS", f"-180\\-180\\{position}"),
        (0x00200037, "DS", "1\\0\\0\\0\\1\\0"),
        (0x00200052, "UI", uid(study, 99)),
        (0x00201041, "DS", position),
        (0x00280030, "DS", "0.703125\\0.703125"),
        (0x00281050, "DS", "40\\-600"),
        (0x00281051, "DS", "400\\1500"),
        (0x00281052, "DS", "0"),
        (0x00281053, "DS", "1"),
        (0x00281054, "LO", "HU"),
        *_image(SIZE, SIZE),
    ]
    return _instance(CT_CLASS, study, series, number, elements, [_slice_pixels(series, number)])


def ct_study(study: int, slices: int = SLICES) -> Iterator[Instance]:
    """The study of three series."""
    return (ct_slice(study, series, k) for series in range(1, SERIES + 1) for k in range(1, slices + 1))


def large_instance(study: int, frames: int) -> Instance:
    """A multi-frame object of `frames` MiB that takes up one MiB here: each of its frames is the same block."""
    elements = _identity(MULTIFRAME_CLASS, study, 1, 1)
    elements += _patient(f"P{RUN}{study:07d}", "Li^Min=李^敏", "20260312")
    elements += [(0x00080060, "CS", "OT"), (0x00280008, "IS", frames), *_image(1024, 1024, bits=8)]
    block = random.Random(1).randbytes(BLOCK_BYTES)
    return _instance(MULTIFRAME_CLASS, study, 1, 1, elements, [block] * frames, pixel_vr="OB")


def _instance(
    sop_class: str,
    study: int,
    series: int,
    number: int,
    elements: list[Element],
    pixels: list[bytes | memoryview],
    pixel_vr: str = "OW",
) -> Instance:
    header = dataset(elements, "gb18030")
    pixel_header = element(0x7FE00010, pixel_vr, b"")[:-4] + sum(map(len, pixels)).to_bytes(4, "little")
    return Instance(sop_class, uid(study, series, number), uid(study), [header + pixel_header, *pixels])


def _identity(sop_class: str, study: int, series: int, number: int) -> list[Element]:
    return [
        (0x00080005, "CS", "GB18030"),
        (0x00080008, "CS", "ORIGINAL\\PRIMARY\\AXIAL"),
        (0x00080016, "UI", sop_class),
        (0x00080018, "UI", uid(study, series, number)),
        (0x00080050, "SH", f"A{study}"),
        (0x0020000D, "UI", uid(study)),
        (0x0020000E, "UI", uid(study, series)),
        (0x00200010, "SH", study % 10**7),
        (0x00200011, "IS", series),
        (0x00200013, "IS", number),
    ]


def _patient(patient_id: str, name: str, date: str) -> list[Element]:
    dates: list[Element] = [(tag, "DA", date) for tag in (0x00080020, 0x00080021, 0x00080022, 0x00080023)]
    times: list[Element] = [(tag, "TM", "092653.58") for tag in (0x00080030, 0x00080031, 0x00080032, 0x00080033)]
    return [
        *dates,
        *times,
        (0x00080090, "PN", "Zhao^Min=赵^敏"),
        (0x00100010, "PN", name),
        (0x00100020, "LO", patient_id),
        (0x00100030, "DA", "19760412"),
        (0x00100040, "CS", "M"),
        (0x00101010, "AS", "049Y"),
    ]


def _scanner(study: int, series: int) -> list[Element]:
    procedure: list[Element] = [
        (0x00080100, "SH", "CT-01"),
        (0x00080102, "SH", "99LOCAL"),
        (0x00080104, "LO", "胸部CT"),
    ]
    request: list[Element] = [
        (0x00321060, "LO", "胸部CT平扫"),
        (0x00400009, "SH", f"S{study}"),
        (0x00401001, "SH", "R1"),
    ]
    private: list[Element] = [(0x00291000 + n, "LO", f"private value {n}") for n in range(20)]
    return [
        (0x00080060, "CS", "CT"),
        (0x00080070, "LO", "基准影像"),
        (0x00080080, "LO", "示例医院放射科"),
        (0x00081010, "SH", "CT01"),
        (0x00081030, "LO", "胸部CT平扫"),
        (0x00081032, "SQ", [procedure]),
        (0x0008103E, "LO", f"胸部 {series}"),
        (0x00081090, "LO", "Phantom 64"),
        (0x00180015, "CS", "CHEST"),
        (0x00180050, "DS", "1.25"),
        (0x00180060, "DS", "120"),
        (0x00181020, "LO", "1.0"),
        (0x00181030, "LO", "胸部平扫"),
        (0x00181100, "DS", "360"),
        (0x00181120, "DS", "0"),
        (0x00181150, "IS", "500"),
        (0x00181151, "IS", "210"),
        (0x00181210, "SH", "B31f"),
        (0x00185100, "CS", "HFS"),
        (0x00189345, "FD", 7.25),
        (0x00290010, "LO", "BENCH"),
        *private,
        (0x00400275, "SQ", [request]),
    ]


def _image(rows: int, columns: int, bits: int = 16) -> list[Element]:
    return [
        (0x00280002, "US", 1),
        (0x00280004, "CS", "MONOCHROME2"),
        (0x00280010, "US", rows),
        (0x00280011, "US", columns),
        (0x00280100, "US", bits),
        (0x00280101, "US", bits),
        (0x00280102, "US", bits - 1),
        (0x00280103, "US", int(bits == 16)),
    ]


@cache
def _small_pixels() -> bytes:
    return random.Random(7).randbytes(SMALL_SIZE * SMALL_SIZE * 2)


def _slice_pixels(series: int, number: int) -> memoryview:
    # The series share their slices in another order: noise is noise, and the data is ready in a third of the time.
    return memoryview(_volume()[(number + 67 * series) % SLICES]).cast("B")


@cache
def _volume() -> "np.ndarray[tuple[int, int, int], np.dtype[np.int16]]":
    """A body with lungs and a spine, in Hounsfield units with the noise of a scanner."""
    noise = np.random.default_rng(1)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j].astype(np.float32)
    volume = np.empty((SLICES, SIZE, SIZE), "<i2")
    for k in range(SLICES):
        z = (k - SLICES / 2) / SLICES
        body = (x / 0.82) ** 2 + (y / 0.6) ** 2 < 1 - z * z
        lungs = ((np.abs(x) - 0.36) / 0.27) ** 2 + (y / 0.42) ** 2 < 1 - 3 * z * z
        spine = x**2 + (y - 0.42) ** 2 < 0.01
        plane = np.select([spine, lungs, body], [np.float32(700), np.float32(-820), np.float32(40)], np.float32(-1000))
        plane += noise.standard_normal(plane.shape, np.float32) * np.where(body, np.float32(14), np.float32(5))
        volume[k] = plane
    return volume


def write_files(folder: Path, studies: int) -> int:
    """The CT study and some small ones as Part 10 files, for other tools to send; how many were written."""
    small = (small_instance(n, series) for n in range(1, studies + 1) for series in (1, 2))
    count = 0
    for instance in itertools.chain(ct_study(CT_STUDY), small):
        path = folder / instance.study_uid / f"{instance.sop_uid}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.writelines([instance.preface, *instance.buffers])
        count += 1
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--studies", type=int, default=0, help="small studies besides the CT study")
    options = parser.parse_args()
    print(f"{write_files(options.folder, options.studies)} files written to {options.folder}")
