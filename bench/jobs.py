"""The jobs that clients do: store by C-STORE and STOW-RS, search, read. See `bench.load` for what a job is."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.dicom import Instance
from bench.http import Connection, Response
from bench.load import Done, Job, Running
from bench.scu import Refused
from bench.server import Server

DICOM_JSON = "application/dicom+json"
MULTIPART_DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
MULTIPART_FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
BOUNDARY = "7d1f0c5be4bench"


def c_store(server: Server, instances: Callable[[], Iterable[Instance]]) -> Job:
    """Send the instances over one association."""

    def job() -> Running:
        ready = list(instances())
        association = server.associate({(instance.sop_class, instance.transfer_syntax) for instance in ready})
        yield None
        for instance in ready:
            status = association.store(instance)
            if status != 0 and status >> 12 != 0xB:  # 0xBxxx: stored, with a warning
                raise Refused(f"C-STORE status {status:04X}H")
            yield Done(1, instance.length)
        association.release()

    return job


def stow(server: Server, instances: Callable[[], Iterable[Instance]], per_request: int) -> Job:
    """Send the instances by POST /studies, so many in each."""

    def job() -> Running:
        ready = list(instances())
        groups = [ready[start : start + per_request] for start in range(0, len(ready), per_request)]
        bodies = [multipart(group) for group in groups]
        connection = server.connect()
        yield None
        for group, body in zip(groups, bodies, strict=True):
            _check_stored(post_studies(connection, body), len(group))
            yield Done(len(group), sum(instance.length for instance in group))
        connection.close()

    return job


def post_studies(connection: Connection, body: Sequence[bytes | memoryview]) -> Response:
    content_type = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    return connection.post("/studies", content_type, DICOM_JSON, body)


def multipart(instances: Iterable[Instance]) -> list[bytes | memoryview]:
    """The instances as the body of one STOW-RS request (PS3.18 10.5)."""
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    parts: list[bytes | memoryview] = []
    for instance in instances:
        parts += [head + instance.preface, *instance.buffers, b"\r\n"]
    return [*parts, f"--{BOUNDARY}--\r\n".encode()]


def _check_stored(response: Response, count: int) -> None:
    if response.status not in (200, 202):
        raise Refused(f"STOW-RS status {response.status}")
    answer = json.loads(response.body)
    answer = answer[0] if isinstance(answer, list) else answer
    stored = len(answer.get("00081199", {}).get("Value", []))
    if stored != count:
        raise Refused(f"STOW-RS stored {stored} of {count}")


@dataclass(frozen=True, slots=True)
class Request:
    """A GET below the DICOMweb root: how many results its answer must hold, or how many bytes at least."""

    path: str
    accept: str = DICOM_JSON
    results: int | None = None
    least_bytes: int = 0

    def check(self, response: Response) -> None:
        """Raises Refused unless the answer is the right one."""
        if response.status not in (200, 204):
            raise Refused(f"status {response.status}")
        if response.length < self.least_bytes:
            raise Refused(f"{response.length} bytes instead of {self.least_bytes} or more")
        if self.results is not None:
            found = len(json.loads(response.body)) if response.status == 200 else 0
            if found != self.results:
                raise Refused(f"found {found} of {self.results}")


def get(server: Server, requests: Sequence[Request], count: int, checked: Sequence[Request] | None = None) -> Job:
    """Ask for these in turn, `count` times in all, after asking once for each, or those in `checked`, and checking the
    answer.
    """

    def job() -> Running:
        connection = server.connect()
        for request in requests if checked is None else checked:
            request.check(connection.get(request.path, request.accept))
        yield None
        for number in range(count):
            request = requests[number % len(requests)]
            response = connection.get(request.path, request.accept)
            if response.status not in (200, 204):
                raise Refused(f"status {response.status}")
            yield Done(1, response.length)
        connection.close()

    return job
