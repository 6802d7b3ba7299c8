"""The results of a run: kept as JSON, shown as a Markdown table of medians with their range."""

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.load import Sample

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: one measure of one figure's samples."""

    title: str
    unit: str
    figure: str
    measure: Callable[[Sample], float | None]
    more_is_better: bool = False


def _rate(sample: Sample) -> float:
    return sample.per_second


def _median(sample: Sample) -> float:
    return sample.p50_ms


def _slowest(sample: Sample) -> float:
    return sample.p99_ms


def _store_rows() -> list[Row]:
    rows = []
    for figure, what in (("ct", "CT slices of 512 KB"), ("small", "instances of 8 KB")):
        for associations in (1, 4, 8):
            title = f"C-STORE, {what}, associations: {associations}"
            name = f"c-store.{figure}.{associations}"
            rows += [
                Row(title, "instances/s", name, _rate, more_is_better=True),
                Row(f"{title}: median", "ms", name, _median),
                Row(f"{title}: p99", "ms", name, _slowest),
            ]
    return rows


ROWS = [
    *_store_rows(),
    Row("Floor: files of 512 KB made durable by one writer", "files/s", "floor.ct", _rate, more_is_better=True),
    Row("Floor: files of 8 KB made durable by one writer", "files/s", "floor.small", _rate, more_is_better=True),
    Row("Floor: a million additions in Python", "ms", "floor.additions", _median),
    Row("STOW-RS, a CT series in one request", "instances/s", "stow.ct.one-request", _rate, more_is_better=True),
    Row("STOW-RS, a CT slice in each request", "instances/s", "stow.ct.each-alone", _rate, more_is_better=True),
    Row("Search studies by PatientID", "ms", "search.patient-id", _median),
    Row("Search studies by the start of a name", "ms", "search.name-prefix", _median),
    Row("Search studies by a Chinese surname", "ms", "search.name-chinese", _median),
    Row("Search studies of one month", "ms", "search.date-range", _median),
    Row("List 100 studies", "ms", "search.list-100", _median),
    Row("Metadata of a CT series", "ms", "metadata.series", _median),
    Row("One frame of 512 KB", "ms", "frame.512k", _median),
    Row("A whole CT series", "MB/s", "retrieve.series", lambda s: s.mb_per_second, more_is_better=True),
    Row("A CT slice rendered", "ms", "rendered.ct", _median),
    Row("The same rendering again", "ms", "rendered.again", _median),
    Row("The thumbnail of a series again", "ms", "thumbnail.again", _median),
    Row("Index rebuilt from packs", "instances/s", "reindex", _rate, more_is_better=True),
    Row("CPU to store CT slices, 8 associations", "s/GB", "c-store.ct.8", lambda s: s.cpu_seconds_per_gb),
    Row("CPU to store a small instance, 8 associations", "ms", "c-store.small.8", lambda s: s.cpu_ms_each),
    Row("CPU to give a whole CT series", "s/GB", "retrieve.series", lambda s: s.cpu_seconds_per_gb),
    Row("Peak memory, 8 associations with CT slices", "MiB", "c-store.ct.8", lambda s: s.peak_mib),
    Row("Peak memory, one large object", "MiB", "c-store.large", lambda s: s.peak_mib),
    Row("C-STORE of one large object", "MB/s", "c-store.large", lambda s: s.mb_per_second, more_is_better=True),
]


@dataclass(slots=True)
class Results:
    """The samples of every figure for every server, and the errors of those that failed."""

    about: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)  # figure -> server -> samples
    errors: dict[str, dict[str, str]] = field(default_factory=dict)  # figure -> server -> message

    def add(self, figure: str, server: str, sample: Sample) -> None:
        self.samples.setdefault(figure, {}).setdefault(server, []).append(sample)

    def fail(self, figure: str, server: str, message: str) -> None:
        self.errors.setdefault(figure, {})[server] = message

    def failed(self, figure: str, server: str) -> bool:
        return server in self.errors.get(figure, {})

    def servers(self) -> list[str]:
        names = [*(s for taken in self.samples.values() for s in taken), *(s for e in self.errors.values() for s in e)]
        return list(dict.fromkeys(names))

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")


def load(path: Path) -> Results:
    """Results that were saved."""
    saved = json.loads(path.read_text("utf-8"))
    samples = {
        figure: {server: [Sample(**values) for values in taken] for server, taken in servers.items()}
        for figure, servers in saved["samples"].items()
    }
    return Results(saved["about"], samples, saved["errors"])


def machine(folder: Path) -> dict[str, Any]:
    """What the figures depend on besides the servers; `folder` is on the disk that is written to."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "processor": model[0].partition(":")[2].strip() if model else platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "fsync_ms": _fsync_ms(folder),
    }


def _fsync_ms(folder: Path) -> float:
    """The median time to write 4 KB and have them on stable storage: no durable answer can come sooner."""
    folder.mkdir(parents=True, exist_ok=True)
    times = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(50):
            start = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            times.append(time.perf_counter() - start)
    return round(1e3 * statistics.median(times), 3)


def table(results: Results) -> str:
    """The results as Markdown; with two servers or more, also how much better the first is than each other."""
    first, *others = results.servers()
    header = ["Figure", "Unit", first, *(cell for other in others for cell in (other, f"{first} is better"))]
    lines = [f"| {' | '.join(header)} |", f"|---|---|{'---:|' * (len(header) - 2)}"]
    for row in ROWS:
        if row.figure not in results.samples and row.figure not in results.errors:
            continue
        cells = [_cell(results, row, first)]
        for other in others:
            cells += [_cell(results, row, other), _ratio(results, row, first, other)]
        lines.append(f"| {row.title} | {row.unit} | {' | '.join(cells)} |")
    return "\n".join(lines)


def caption(results: Results) -> str:
    about = results.about
    return (
        f"{about['date']}, {about['cores']} cores ({about['processor']}) shared by server and load, "
        f"Python {about['python']}, write and fsync of 4 KB: {about['fsync_ms']} ms; workers: {about['workers']}, "
        f"repetitions: {about['repeat']}, small studies: {about['studies']}, slices in a CT series: "
        f"{about['slices']}, large object: {about['large_mib']} MiB; other processes used {_noise(results):.1f} cores. "
        "Median (smallest to largest)."
    )


def _noise(results: Results) -> float:
    taken = [sample for servers in results.samples.values() for samples in servers.values() for sample in samples]
    return statistics.median(sample.other_cores for sample in taken) if taken else 0.0


def write_readme(results: Results) -> None:
    """Put the table between the markers of README.md. Raises ValueError when they are not there."""
    text = README.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{README} has no place for the results: {BEGIN} ... {END}")
    README.write_text(f"{before}{BEGIN}\n{caption(results)}\n\n{table(results)}\n{END}{after}", "utf-8")


def _values(results: Results, row: Row, server: str) -> list[float]:
    measured = (row.measure(sample) for sample in results.samples.get(row.figure, {}).get(server, []))
    return [value for value in measured if value is not None]


def _cell(results: Results, row: Row, server: str) -> str:
    if (message := results.errors.get(row.figure, {}).get(server)) is not None:
        return f"failed: {message[:60]}"
    values = _values(results, row, server)
    if not values:
        return "-"
    median = _number(statistics.median(values))
    return median if len(values) == 1 else f"{median} ({_number(min(values))} to {_number(max(values))})"


def _ratio(results: Results, row: Row, first: str, other: str) -> str:
    ours, theirs = _values(results, row, first), _values(results, row, other)
    if not ours or not theirs:
        return "-"
    ratio = statistics.median(ours) / statistics.median(theirs)
    return f"{ratio if row.more_is_better else 1 / ratio:.1f} x"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
