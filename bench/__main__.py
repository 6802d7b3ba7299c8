"""`python -m bench`: start a gateway, measure it (and peers that run already), write the results down."""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import data, report, s3, server
from bench.figures import FULL, QUICK, Figure, Scale, all_figures, preparations
from bench.load import Failed, measure
from bench.report import Results
from bench.server import CannotStart, Server

HERE = Path(__file__).parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: rough figures within a minute")
    parser.add_argument("--only", default="", metavar="NAME,...", help="figures whose names contain one of these")
    parser.add_argument("--repeat", type=int, metavar="N", help="repetitions of each figure  [default: 3, quick: 1]")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="worker processes of the gateway")
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        type=server.running,
        metavar="NAME,URL,HOST:PORT/AET[,PID]",
        help="a peer that runs already, started empty, to be measured in turn with the gateway; may be repeated",
    )
    parser.add_argument(
        "--s3", action="store_true", help="measure in turn also a gateway whose packs go to a bucket (SeaweedFS)"
    )
    parser.add_argument("--no-gateway", action="store_true", help="measure the peers of --against alone")
    parser.add_argument("--data", type=Path, default=HERE / "data", help="folder on the disk to be measured")
    parser.add_argument("--show", type=Path, metavar="FILE", help="show the results of an earlier run instead")
    parser.add_argument("--write-readme", action="store_true", help="put the table into bench/README.md")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    try:
        results = report.load(options.show) if options.show else run(options)
    except CannotStart as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(f"\n{report.caption(results)}\n\n{report.table(results)}")
    if options.write_readme:
        report.write_readme(results)
    return 1 if results.errors else 0


def run(options: argparse.Namespace) -> Results:
    """Measure everything that was asked for; the results are saved after each figure."""
    scale = QUICK if options.quick else FULL
    repeat = options.repeat or (1 if options.quick else 3)
    chosen = [figure for figure in all_figures(scale, options.data) if _is_chosen(figure, options.only)]
    if not chosen:
        raise SystemExit(f"bench: no figure is named like {options.only!r}")
    data.prepare()
    file = HERE / "results" / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    results = Results({**report.machine(options.data), **asdict(scale), "workers": options.workers, "repeat": repeat})
    with contextlib.ExitStack() as stack:
        started = [] if options.no_gateway else [stack.enter_context(server.gateway(options.data, options.workers))]
        if options.s3:
            url = stack.enter_context(s3.bucket(options.data / f"s3-{os.getpid()}"))
            started.append(stack.enter_context(server.gateway(options.data, options.workers, name="s3", archive=url)))
        servers = [*started, *options.against]
        stored: set[str] = set()
        for figure in chosen:
            if figure.needs and figure.needs not in stored:
                stored.add(figure.needs)
                prepare(figure.needs, scale, servers)
            take(figure, servers, 1 if figure.once else repeat, results)
            results.save(file)
    print(f"\nResults: {file}")
    return results


def _is_chosen(figure: Figure, only: str) -> bool:
    return any(part in figure.name for part in only.split(","))


def prepare(need: str, scale: Scale, servers: Sequence[Server]) -> None:
    """Store what figures need; without it they fail, each saying so."""
    for target in servers:
        try:
            sample = measure(target, preparations(scale, need)(target))
            print(f"{target.name:12} {'stored for ' + need:28} {sample.count} instances in {sample.seconds:.1f} s")
        except Failed as error:
            print(f"{target.name:12} {'stored for ' + need:28} failed: {error}")


def take(figure: Figure, servers: Sequence[Server], repeat: int, results: Results) -> None:
    """Measure one figure: each repetition visits every server in turn, so that noise falls on all alike."""
    for _ in range(repeat):
        for target in servers:
            if results.failed(figure.name, target.name):
                continue
            try:
                sample = measure(target, figure.jobs(target), figure.seconds)
            except Failed as error:
                results.fail(figure.name, target.name, str(error))
                print(f"{target.name:12} {figure.name:28} failed: {error}", flush=True)
                continue
            results.add(figure.name, target.name, sample)
            print(
                f"{target.name:12} {figure.name:28} {sample.per_second:9.1f}/s {sample.mb_per_second:8.1f} MB/s  "
                f"p50 {sample.p50_ms:8.2f} ms  p99 {sample.p99_ms:8.2f} ms  cpu {sample.cpu_seconds or 0:6.2f} s  "
                f"memory {sample.peak_mib or 0:5.0f} MiB  others {sample.other_cores:.1f} cores",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
