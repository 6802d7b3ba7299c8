"""`gateway store`: send files and folders to a DICOMweb server or an application entity, and remember what arrived."""

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.c_store import AEDestination
from gateway.cli.delivery import Delivery, Destination, Fate, Rejected, Unreachable, batches
from gateway.cli.files import DicomFile, NotForStorage, find, recognise
from gateway.cli.journal import Journal, default_path
from gateway.cli.narrator import ALREADY, FAILED, SKIPPED, STORED, Narrator
from gateway.cli.stow import StowDestination
from gateway.cli.web_client import CannotUse, WebClient, read_token

NOT_ALL, NOTHING_SENT = 1, 2
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/]+):(?P<port>\d{1,5})")


def store(
    paths: Annotated[list[Path], typer.Argument(exists=True, metavar="PATH", help="DICOM files, or folders of them.")],
    to: Annotated[str, typer.Option(metavar="URL|HOST:PORT", help="A DICOMweb root, or an application entity.")],
    called: Annotated[str, typer.Option(metavar="AET", help="AE title of the receiver (HOST:PORT).")] = "GATEWAY",
    calling: Annotated[str, typer.Option(metavar="AET", help="AE title of the sender (HOST:PORT).")] = "GATEWAY-STORE",
    token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="A file with a bearer token (URL).")] = None,
    retries: Annotated[int, typer.Option(min=0, max=20, help="How often to send again what may be taken later.")] = 5,
    journal: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to remember what was stored.")] = None,
    resend: Annotated[bool, typer.Option("--resend", help="Send also what an incomplete run has stored.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object a line: each file, then a summary.")
    ] = False,
) -> None:
    """Store DICOM files; after a run that was not complete, run it again to send only the rest.

    Files that are not DICOM are skipped. Exit status: 0 all are stored; 1 some are not, or there was nothing to store;
    2 nothing could be sent at all.
    """
    narrator = Narrator(as_json)
    with ExitStack() as stack:
        try:
            destination = _destination(to, called, calling, token_file)
            stack.callback(destination.close)
            done = stack.enter_context(Journal(journal or default_path(f"{to} {called}"), f"{to} {called}"))
            problem = _run(paths, destination, Delivery(destination, retries), done, narrator, resend)
        except (CannotUse, OSError) as error:
            narrator.summarise(None, str(error), NOTHING_SENT)
            raise typer.Exit(NOTHING_SENT) from None
    status = _exit_status(narrator, problem)
    if not problem and not done.is_wanted:
        done.forget()
    narrator.summarise(done.path, problem, status)
    raise typer.Exit(status)


def _destination(to: str, called: str, calling: str, token_file: Path | None) -> Destination:
    if "://" in to:
        return StowDestination(WebClient(to, read_token(token_file)))
    address = _HOST_AND_PORT.fullmatch(to)
    if address is None or int(address["port"]) > 65535:
        raise CannotUse(f"--to {to} is neither a URL (http://127.0.0.1:8080/dicomweb) nor HOST:PORT (127.0.0.1:11112)")
    for title in (called, calling):
        if not 1 <= len(title.strip()) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
            raise CannotUse(f"{title!r} is no AE title: 1 to 16 printable ASCII characters and no backslash")
    return AEDestination((address["host"].strip("[]"), int(address["port"])), called=called, calling=calling)


def _run(
    paths: list[Path], destination: Destination, delivery: Delivery, done: Journal, narrator: Narrator, resend: bool
) -> str:
    """Send everything; what ended the run early, or nothing."""
    with narrator.progress(lambda: find(paths)):
        files = _to_send(paths, done, narrator, resend)
        try:
            for batch in batches(files, destination.max_files, destination.max_bytes):
                _send(batch, delivery, done, narrator)
        except (Unreachable, Rejected) as error:
            return str(error)
    return ""


def _send(batch: list[DicomFile], delivery: Delivery, done: Journal, narrator: Narrator) -> None:
    for sent in delivery.deliver(batch):
        if sent.fate is Fate.STORED:
            done.add(sent.file.found)
            narrator.tell(sent.file.found, STORED)
        else:
            done.is_wanted |= sent.fate is Fate.LATER
            narrator.tell(sent.file.found, FAILED, sent.reason)


def _to_send(paths: Iterable[Path], done: Journal, narrator: Narrator, resend: bool) -> Iterator[DicomFile]:
    for found in find(paths):
        if not resend and done.holds(found):
            narrator.tell(found, ALREADY)
            continue
        try:
            yield recognise(found)
        except NotForStorage as reason:
            narrator.tell(found, SKIPPED, str(reason))
        except OSError as error:
            narrator.tell(found, FAILED, f"cannot be read: {error.strerror}")


def _exit_status(narrator: Narrator, problem: str) -> int:
    counts = narrator.counts
    if problem and not counts[STORED] and not counts[FAILED]:
        return NOTHING_SENT
    complete = not problem and not counts[FAILED] and (counts[STORED] or counts[ALREADY])
    return 0 if complete else NOT_ALL
