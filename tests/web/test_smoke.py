"""The door opens, stores, finds and gives back."""

from tests import samples
from tests.web.conftest import Door


def test_store_search_retrieve(door: Door) -> None:
    file = samples.part10(samples.ct())
    headers = {"content-type": "application/dicom"}
    assert door.client.post(door.url + "/studies", content=file, headers=headers).status_code == 200
    (row,) = door.get("/studies?PatientID=P1").json()
    (retrieve_url,) = row["00081190"]["Value"]
    assert file in door.client.get(retrieve_url).content
