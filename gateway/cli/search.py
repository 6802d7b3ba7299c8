"""`gateway search`: QIDO-RS from the command line (PS3.18 10.6)."""

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.web_client import Answer, CannotUse, WebClient, no_answer, read_token

NOTHING_FOUND, NO_ANSWER = 1, 2
_NO_LIMIT = 10_000
DEFAULT_ROOT = "http://127.0.0.1:8080/dicomweb"


class Level(StrEnum):
    """What is searched for."""

    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"


# What the table shows of each: heading and tag.
COLUMNS = {
    Level.STUDY: (
        ("Patient", "00100010"),
        ("Patient ID", "00100020"),
        ("Date", "00080020"),
        ("Modalities", "00080061"),
        ("Description", "00081030"),
        ("Instances", "00201208"),
        ("Study Instance UID", "0020000D"),
    ),
    Level.SERIES: (
        ("No.", "00200011"),
        ("Modality", "00080060"),
        ("Description", "0008103E"),
        ("Instances", "00201209"),
        ("Series Instance UID", "0020000E"),
        ("Study Instance UID", "0020000D"),
    ),
    Level.INSTANCE: (
        ("No.", "00200013"),
        ("Rows", "00280010"),
        ("Columns", "00280011"),
        ("SOP Class UID", "00080016"),
        ("SOP Instance UID", "00080018"),
        ("Series Instance UID", "0020000E"),
    ),
}


def search(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="KEYWORD=VALUE", help="Matching keys, such as PatientName=王*")
    ] = None,
    url: Annotated[str, typer.Option(help="DICOMweb root.")] = DEFAULT_ROOT,
    level: Annotated[Level, typer.Option(help="What to search for.")] = Level.STUDY,
    study: Annotated[str, typer.Option(metavar="UID", help="Only in this study (series, instances).")] = "",
    series: Annotated[str, typer.Option(metavar="UID", help="Only in this series of --study (instances).")] = "",
    include: Annotated[
        list[str] | None, typer.Option(metavar="KEYWORD", help="Return this attribute too (--json); `all` for all.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="How many to leave out at the start.")] = 0,
    token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="A file with a bearer token.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the DICOM JSON array.")] = False,
) -> None:
    """Search studies, series or instances. Exit status, as that of grep: 0 found; 1 nothing found; 2 no answer."""
    included = list(include or ())
    if level is Level.STUDY and not as_json:
        included.append("StudyDescription")  # shown in the table; servers need not return it unasked (PS3.18 10.6.3)
    parameters = [("limit", str(limit)), ("offset", str(offset)), *(("includefield", name) for name in included)]
    try:
        parameters = [*map(_key, keys or ()), *parameters]
        rows, warnings = _ask(url, _resource(level, study, series), parameters, read_token(token_file))
    except CannotUse as error:
        print(f"gateway: {error}", file=sys.stderr)
        raise typer.Exit(NO_ANSWER) from None
    for warning in warnings:
        print(f"gateway: {warning}", file=sys.stderr)
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
    elif rows:
        _show(rows, level)
    else:
        print("Nothing found.")
    raise typer.Exit(0 if rows else NOTHING_FOUND)


def _key(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise CannotUse(f"{text!r} is not a matching key: write KEYWORD=VALUE, such as PatientID=P1")
    return name, value


def _resource(level: Level, study: str, series: str) -> str:
    """The path of one of the six search resources (PS3.18 Table 10.6.1-1)."""
    if series and not study:
        raise CannotUse("--series needs --study: a series is searched within its study")
    if level is Level.STUDY:
        if study:
            raise CannotUse("--study is for series and instances; to find one study, search StudyInstanceUID=...")
        return "/studies"
    if level is Level.SERIES:
        if series:
            raise CannotUse("--series is for instances; to find one series, search SeriesInstanceUID=...")
        return f"/studies/{study}/series" if study else "/series"
    if series:
        return f"/studies/{study}/series/{series}/instances"
    return f"/studies/{study}/instances" if study else "/instances"


def _ask(
    url: str, resource: str, parameters: Sequence[tuple[str, str]], token: str | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows found, and the warnings that came with them. Raises CannotUse."""
    client = WebClient(url, token)
    try:
        answer = client.get(resource, parameters)
    except httpx.RequestError as error:
        raise CannotUse(no_answer(url, error)) from error
    finally:
        client.close()
    return _rows(url, answer), answer.headers.get_list("Warning")


def _rows(url: str, answer: Answer) -> list[dict[str, Any]]:
    if answer.status == 204:
        return []
    document = answer.json()
    if answer.status == 200 and isinstance(document, list):
        return document
    detail = document.get("detail", "") if isinstance(document, dict) else ""
    raise CannotUse(f"{url} answered {answer.status}{f': {detail}' if detail else ''}")


def _show(rows: Sequence[dict[str, Any]], level: Level) -> None:
    table = Table(box=None, pad_edge=False)
    for heading, _ in COLUMNS[level]:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(_text(row.get(tag, {})) for _, tag in COLUMNS[level]))
    # Columns as wide as their values, whatever the terminal: a UID that is folded cannot be copied.
    Console(highlight=False, markup=False, width=_NO_LIMIT).print(table)


def _text(element: dict[str, Any]) -> str:
    return ", ".join(_value(value) for value in element.get("Value", []))


def _value(value: Any) -> str:
    """A person name by its ideographic group when there is one, anything else as it is."""
    if isinstance(value, dict):
        return str(value.get("Ideographic") or value.get("Alphabetic") or value.get("Phonetic") or "").replace("^", " ")
    return "" if value is None else str(value)
