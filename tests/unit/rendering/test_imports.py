"""What a door needs of the rendering is there without loading numpy, Pillow or a codec."""

import subprocess
import sys

LIGHT = ("wish", "attributes", "report", "video")
HEAVY = ("numpy", "PIL", "imagecodecs")


def test_wishes_attributes_and_reports_load_nothing_heavy() -> None:
    imports = "".join(f"import storage.dicom.rendering.{name}\n" for name in LIGHT)
    script = f"{imports}import sys\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
