"""What all tests share: the rule for peers that only a distribution has."""

import os
import shutil

import pytest

DCMTK = ("storescu", "echoscu", "storescp", "dcmdump")
missing_dcmtk = [name for name in DCMTK if shutil.which(name) is None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without dcmtk its tests fail where everything must run (CI=true), and are skipped aloud elsewhere."""
    if not missing_dcmtk or os.environ.get("CI") == "true":
        return
    reason = f"dcmtk is not installed: no {', '.join(missing_dcmtk)} on PATH"
    for item in items:
        if "requires_dcmtk" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def requires_dcmtk() -> None:
    assert not missing_dcmtk, f"dcmtk is not installed: no {', '.join(missing_dcmtk)} on PATH"
