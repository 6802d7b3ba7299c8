"""What one of several gateways on one database does in tests: adds and removes, at random, and says what it was told.

Also a program, for gateways in processes of their own: `python -m tests.contract.gateways URL SEED`.
"""

import random
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from storage.dicom.identity import Scope
from storage.errors import NotFound
from storage.index import InstanceRecord, MetadataIndex
from storage.index.postgres import PostgresIndex
from tests import samples
from tests.contract.index_samples import instance, record

STUDIES, SERIES, NUMBERS, VARIANTS = 4, 2, 6, 2
THREADS = 4
ACTS = 90  # of each gateway
REMOVALS_IN_100 = 8


def records(seed: int) -> list[InstanceRecord]:
    """Instances in variants, which all gateways have in common, in an order of this gateway's own."""
    made = [
        instance(study, series, number, PatientComments=f"variant {variant}")
        for study in range(1, STUDIES + 1)
        for series in range(1, SERIES + 1)
        for number in range(1, NUMBERS + 1)
        for variant in range(VARIANTS)
    ]
    # What was removed is doomed, and its object not to be used again: each gateway and act has a name of its own.
    order = random.Random(seed).choices(made, k=ACTS)
    return [record(each, attempt=f"-{seed:x}{number:03x}") for number, each in enumerate(order)]


def act(index: MetadataIndex, seed: int) -> "Counter[str]":
    """Add and remove from several threads; how often which outcome was told."""

    def one(number: int, made: InstanceRecord) -> str:
        if random.Random(seed * 1000 + number).randrange(100) >= REMOVALS_IN_100:
            return index.add(made).outcome.value
        study = made.instance.identity.study_uid
        scopes = [Scope(study), Scope(study, f"{study}.1"), Scope(*_uids(made))]
        try:
            index.remove(scopes[number % 3])
        except NotFound:
            return "nothing"
        return "removed"

    with ThreadPoolExecutor(THREADS) as pool:
        todo = records(seed)
        return Counter(pool.map(one, range(len(todo)), todo))


def _uids(made: InstanceRecord) -> tuple[str, str, str]:
    identity = made.instance.identity
    return identity.study_uid, identity.series_uid, identity.sop_uid


def all_studies() -> list[str]:
    """The UIDs of all studies that gateways add to."""
    return [f"{samples.ROOT}.{number}" for number in range(1, STUDIES + 1)]


if __name__ == "__main__":
    gateway = PostgresIndex(sys.argv[1])
    for outcome, times in act(gateway, int(sys.argv[2])).items():
        print(outcome, times)
    gateway.close()
