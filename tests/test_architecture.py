"""The house rules that a machine can check: import ranks, one room for each third party, and sizes."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70

# Who may import whom: only modules further up in this list (longest prefix decides). The doors stand side by side.
RANKS = [
    ["storage", "storage.errors"],
    ["storage.dicom"],
    ["storage.objects"],
    ["storage.packs"],
    ["storage.index"],
    ["gateway"],
    ["gateway.security.caller"],
    ["gateway.config"],
    ["gateway.log", "gateway.metrics"],
    ["gateway.security"],
    ["gateway.archive"],
    ["gateway.upkeep"],
    ["gateway.federation"],
    ["gateway.compose_archive"],
    ["gateway.dimse", "gateway.web"],
    ["gateway.compose"],
    ["gateway.cli"],
    ["gateway.__main__"],
]
# Each third party has one room (or the few named here).
ROOMS = {
    "pydicom": ["storage.dicom"],
    "blake3": ["storage.dicom", "storage.packs"],
    "numpy": ["storage.dicom.pixels", "storage.dicom.rendering"],
    "imagecodecs": ["storage.dicom.pixels", "storage.dicom.rendering"],
    "PIL": ["storage.dicom.rendering"],
    "pypinyin": ["storage.dicom"],
    "defusedxml": ["storage.dicom"],
    "sqlalchemy": ["storage.index"],
    "alembic": ["storage.index"],
    "sqlite3": ["storage.index"],
    "psycopg": ["storage.index"],
    "boto3": ["storage.objects"],
    "botocore": ["storage.objects"],
    "urllib3": ["storage.objects"],
    "redis": ["gateway.federation"],
    "pynetdicom": ["gateway.dimse"],
    "starlette": ["gateway.web"],
    "uvicorn": ["gateway.web"],
    "asyncio": ["gateway.web"],
    "anyio": ["gateway.web"],
    "pydantic": ["gateway.config"],
    "tomllib": ["gateway.config"],
    "structlog": ["gateway.log"],
    "prometheus_client": ["gateway.metrics"],
    "typer": ["gateway.cli", "gateway.__main__"],
    "rich": ["gateway.cli"],
    "httpx": ["gateway.cli", "gateway.federation"],
}
FILES = sorted(path for package in ("storage", "gateway") for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


def rank(module: str) -> tuple[int, str]:
    found = [(len(room), number, room) for number, rooms in enumerate(RANKS) for room in rooms if within(module, room)]
    assert found, f"{module} has no rank: add its room to RANKS"
    _, number, room = max(found)
    return number, room


def imports(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            assert node.module is not None
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_follow_the_ranks(path: Path) -> None:
    module = module_name(path)
    own_rank, own_room = rank(module)
    for name in imports(ast.parse(path.read_text())):
        if name.split(".")[0] in ("storage", "gateway"):
            other_rank, other_room = rank(name)
            allowed = other_rank < own_rank or other_room == own_room
            assert allowed, f"{module} must not import {name}"
        for third_party, rooms in ROOMS.items():
            if within(name, third_party):
                assert any(within(module, room) for room in rooms), f"{name} belongs to {rooms}, not to {module}"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, f"{node.name} is too long"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert path.stem not in ("utils", "helpers", "common", "manager")


def test_asynchronous_code_lives_in_the_web_room_alone() -> None:
    for path in FILES:
        if within(module_name(path), "gateway.web"):
            continue
        names = [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.AsyncFunctionDef)]
        assert not names, f"{path} has asynchronous functions: {names}"
