"""Buckets are listed in key order, whichever order the server keeps."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.objects import ObjectMeta, s3_listing
from storage.objects.s3 import S3Store
from storage.objects.s3_bucket import MOST, Bucket, Objects
from storage.objects.s3_listing import Listing
from storage.objects.s3_patience import Patience
from storage.objects.s3_settings import parse_s3_url
from tests.seaweed import Seaweed

NAMES = st.lists(st.text("ab-.", min_size=1, max_size=3).filter(lambda s: s[0] not in "-."), min_size=1, max_size=3)


class FolderByFolder(Bucket):
    """Lists as a server does that keeps folders: a folder's name counts without its slash."""

    def __init__(self, names: set[str]) -> None:
        self.keys = sorted(names, key=lambda key: key.split("/"))
        self.asked = 0

    def objects(self, prefix: str, *, after: str = "", most: int = MOST) -> Objects:
        self.asked += 1
        found = [key for key in self.keys if key.startswith(prefix) and key.split("/") > after.split("/")]
        return Objects([ObjectMeta(key, 1) for key in found[:most]], len(found) > most)


def not_a_folder_too(names: set[str]) -> set[str]:
    return {name for name in names if not any(other.startswith(name + "/") for other in names)}


@settings(deadline=None, max_examples=100)
@given(
    names=st.sets(NAMES.map("/".join), max_size=16).map(not_a_folder_too),
    prefix=st.text("ab-./", max_size=4),
    after=st.text("ab-./", max_size=6),
    page=st.integers(1, 7),
)
def test_folders_are_put_in_key_order(names: set[str], prefix: str, after: str, page: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3_listing, "PAGE", page)
        listing = Listing(FolderByFolder(names), Patience(0), lambda: False)
        found = [meta.key for meta in listing.scan(prefix, after)]
    assert found == sorted(name for name in names if name.startswith(prefix) and name > after)


def test_what_it_costs_in_a_bucket_of_packs() -> None:
    names = {f"packs/local/1.2.{study}/1.3.{study}.{series}/p.zip" for study in range(500) for series in range(10)}
    bucket = FolderByFolder(names)
    listing = Listing(bucket, Patience(0), lambda: False)
    assert [meta.key for meta in listing.scan("packs/", "")] == sorted(names)
    assert bucket.asked <= 5 + 5 * 20  # pages; and at the end of each a look beside the folders that are open


def test_a_real_server_is_put_in_key_order(seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> None:
    studies = ["1.2", "1.2.3", "1.2-a", "1.20", "1.2.3.4", "1"]
    names = {f"packs/{study}/{series}/{number}" for study in studies for series in ("5", "5.1") for number in "12"}
    names |= {"packs.old", "packs-a/1", "packs/1.2.x"}
    store = S3Store(parse_s3_url(seaweed.url(seaweed.make_bucket("listing"), "p")))
    for name in sorted(names):
        store.put(name, [b"x"])
    for page in (3, 1000):
        monkeypatch.setattr(s3_listing, "PAGE", page)
        assert [meta.key for meta in store.scan()] == sorted(names)
        after = "packs/1.2.3/5.1/1"
        assert [meta.key for meta in store.scan("packs/", after=after)] == sorted(
            name for name in names if name.startswith("packs/") and name > after
        )
    store.close()
