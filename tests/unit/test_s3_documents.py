"""Documents of S3 servers: what is none of them is never an empty list."""

import pytest

from storage.errors import Conflict, StorageError, Unavailable
from storage.objects.s3_documents import document, each, fields, parsed
from storage.objects.s3_errors import Passing

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
ENTITIES = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><ListBucketResult>&b;</ListBucketResult>'


@pytest.mark.parametrize("namespace", ["", f' xmlns="{NAMESPACE}"'])
def test_elements_are_read_in_whatever_namespace(namespace: str) -> None:
    body = f"<R{namespace}><Name>n</Name><C><Key>a&amp;b</Key></C><Empty/><D><Key>c</Key></D></R>".encode()
    found = parsed(body, "R", "list")
    assert list(each(found, "C", "D")) == [{"Key": "a&b"}, {"Key": "c"}]
    assert (fields(found)["Name"], fields(found)["Empty"]) == ("n", "")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Passing),
        (b"<ListBucketResult><Contents>", Passing),
        (b"not xml", Passing),
        (b"<html><body>Welcome to the network</body></html>", Unavailable),
        (b"<Error><Code>InternalError</Code></Error>", Passing),
        (b"<Error><Code>PreconditionFailed</Code></Error>", Conflict),
        (ENTITIES, Unavailable),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><ListBucketResult/>', Unavailable),
    ],
)
def test_what_is_no_list_is_an_error(body: bytes, kind: type[StorageError]) -> None:
    with pytest.raises(StorageError) as caught:
        parsed(body, "ListBucketResult", "list")
    assert type(caught.value) is kind


def test_what_is_sent_can_be_read_whatever_is_in_it() -> None:
    made = document("Delete", [("Quiet", "true"), ("Object", {"Key": "a<b>&\"'"}), ("Object", {"Key": "c"})])
    found = parsed(made, "Delete", "delete")
    assert [one["Key"] for one in each(found, "Object")] == ["a<b>&\"'", "c"]
    assert found.tag == f"{{{NAMESPACE}}}Delete"
