"""An authority of our own and what it signs, made by the `openssl` command for one run of the tests."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certified:
    """A certificate and its key, PEM files."""

    certificate: Path
    key: Path


def authority(folder: Path) -> Certified:
    """One that nobody knows yet; `folder` is made."""
    folder.mkdir()
    made = Certified(folder / "ca.pem", folder / "ca.key")
    _openssl(
        *("req", "-x509", *_NEW_KEY, "-keyout", made.key, "-out", made.certificate, "-days", "2"),
        *("-subj", "/CN=An authority of tests", "-addext", "basicConstraints=critical,CA:TRUE"),
        *("-addext", "keyUsage=critical,keyCertSign"),
    )
    return made


def signed(by: Certified, *names: str, days: int = 2) -> Certified:
    """For a server with these host names."""
    folder = by.certificate.parent
    made = Certified(folder / f"{names[0]}.pem", folder / f"{names[0]}.key")
    request, extensions = folder / f"{names[0]}.csr", folder / f"{names[0]}.txt"
    extensions.write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in names) + "\n")
    _openssl("req", *_NEW_KEY, "-keyout", made.key, "-out", request, "-subj", "/CN=A server of tests")
    _openssl(
        *("x509", "-req", "-in", request, "-CA", by.certificate, "-CAkey", by.key, "-CAcreateserial"),
        *("-days", str(days), "-extfile", extensions, "-out", made.certificate),
    )
    return made


def _openssl(*arguments: str | Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
