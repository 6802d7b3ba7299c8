"""What an operator can measure, in one process and in several."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import metrics
from gateway.archive import Expected
from gateway.archive.metered import MeteredArchive
from storage.errors import NotFound
from tests import samples
from tests.unit.test_local_archive import BY, ONE, House


def figure(name: str) -> float:
    found = [line for line in metrics.render().decode().splitlines() if line.startswith(name + " ")]
    return float(found[0].split()[-1]) if found else 0.0


def test_stores_are_counted_by_outcome_with_their_bytes(tmp_path: Path) -> None:
    archive = MeteredArchive(House(tmp_path).archive)
    data = samples.part10(samples.ct())
    names = [f'gateway_instances_stored_total{{door="dimse",outcome="{word}"}}' for word in ("new", "same", "failed")]
    names += ['gateway_stored_bytes_total{door="dimse"}']
    names += ['gateway_act_seconds_count{act="store",door="dimse",outcome="done"}']
    before = [figure(name) for name in names]
    for body in (data, data, b"garbage"):
        with archive.incoming() as incoming:
            incoming.write(body)
            try:
                archive.store(incoming, Expected(), by=BY)
            except Exception:
                assert body == b"garbage"
    assert [figure(name) - was for name, was in zip(names, before, strict=True)] == [1, 1, 1, 2 * len(data), 2]


def test_refusals_and_failures_are_told_apart(tmp_path: Path) -> None:
    archive = MeteredArchive(House(tmp_path).archive)
    name = 'gateway_act_seconds_count{act="delete",door="dimse",outcome="refused"}'
    before = figure(name)
    with pytest.raises(NotFound):
        archive.delete(ONE, by=BY)
    assert figure(name) == before + 1


def test_associations_and_responses() -> None:
    open_before, rejected_before = (
        figure("gateway_associations_open"),
        figure('gateway_associations_total{result="rejected"}'),
    )
    metrics.association_opened()
    metrics.association_opened()
    metrics.association_closed()
    metrics.association_rejected()
    assert figure("gateway_associations_open") == open_before + 1
    assert figure('gateway_associations_total{result="rejected"}') == rejected_before + 1
    metrics.association_closed()
    metrics.responded("frames", 200, 0.003)
    assert figure('gateway_http_responses_total{resource="frames",status="200"}') >= 1


def test_several_processes_are_one_figure(tmp_path: Path) -> None:
    code = "import sys; from gateway import metrics; metrics.stored('dimse', 'new', 5); metrics.association_opened()"
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    shown = subprocess.run(
        [sys.executable, "-c", code + "; sys.stdout.write(metrics.render().decode())"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert 'gateway_instances_stored_total{door="dimse",outcome="new"} 3.0' in shown
    assert 'gateway_stored_bytes_total{door="dimse"} 15.0' in shown
