"""What a sealed series costs in PostgreSQL, all tables and indexes counted."""

import random
from contextlib import closing
from dataclasses import replace

import orjson

from storage.dicom.identity import Scope
from storage.index.postgres import PostgresIndex
from storage.packs import BLOCK_BYTES, BLOCK_DIGEST_BYTES, Blocks, Pack, PackedInstance
from tests.contract.index_samples import instance
from tests.contract.pack_samples import pack_of
from tests.postgres import Postgres

SLICES, SLICE_BYTES = 500, 525_000
SERIES, SERIES_BEFORE = 40, 64  # measured after each partition has its first pages
BYTES_AN_INSTANCE = 200
_SIZES = """
SELECT relname::text, pg_total_relation_size(oid) FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 2 DESC
"""


def ct_series(number: int) -> tuple[Pack, list[bytes]]:
    """A sealed CT series as scanners make them: UIDs of some 60 characters that differ in their last digits."""
    made = instance(number)
    chance = random.Random(number)
    root = f"1.2.840.113619.2.416.{chance.randrange(10**15)}.{chance.randrange(10**9)}.{chance.randrange(10**6)}"
    documents, instances = [], []
    for slice_number in range(1, SLICES + 1):
        uid = f"{root}.{1_770_000_000 + slice_number}.{slice_number}"
        own = made.dataset | {
            "00080018": {"vr": "UI", "Value": [uid]},
            "0020000D": {"vr": "UI", "Value": [f"{root}.1"]},
            "0020000E": {"vr": "UI", "Value": [f"{root}.2"]},
            "00200013": {"vr": "IS", "Value": [slice_number]},
        }
        documents.append(orjson.dumps(own))
        kept = {tag: own[tag] for tag in ("00080016", "00080018", "00200013", "00280010", "00280011", "00280100")}
        packed = PackedInstance(
            sop_uid=uid,
            sop_class=made.identity.sop_class,
            instance_number=slice_number,
            transfer_syntax=made.transfer_syntax,
            offset=0,
            length=SLICE_BYTES + 2 * chance.randrange(10),
            header_length=400,
            digest=chance.randbytes(32),
            revision=1,
            received_at=1_770_000_000_000_000 + slice_number * 60_000 + chance.randrange(50_000),
            source="dimse:CT1",
            repair=None,
            attributes=orjson.dumps(kept),
            frames=made.frames,
            bulk=made.bulk,
        )
        instances.append(packed)
    pack = pack_of(f"{root}.1", f"{root}.2", instances)
    blocks = -(-pack.location.length // BLOCK_BYTES)
    return replace(pack, blocks=Blocks(pack.location.length, chance.randbytes(blocks * BLOCK_DIGEST_BYTES))), documents


def test_a_sealed_series_costs_few_bytes_an_instance(postgres: Postgres) -> None:
    database = postgres.make_database()
    with closing(PostgresIndex(postgres.url(database))) as index:
        sizes: list[int] = []
        for numbers in (range(SERIES_BEFORE), range(SERIES_BEFORE, SERIES_BEFORE + SERIES)):
            for number in numbers:
                pack, documents = ct_series(number)
                index.adopt(pack, documents)
            postgres.run("VACUUM", database)
            sizes.append(sum(int(str(size)) for _, size in postgres.run(_SIZES, database)))
        assert len(index.locate(Scope(pack.study_uid))) == SLICES
    grown = (sizes[1] - sizes[0]) / (SERIES * SLICES)
    assert 60 < grown <= BYTES_AN_INSTANCE, postgres.run(_SIZES, database)[:20]
