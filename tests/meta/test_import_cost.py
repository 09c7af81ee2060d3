"""What ``import superorm`` loads."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"boto3", "dask", "distributed", "fastapi", "lancedb", "mongomock", "pyarrow", "tokenizers", "torch", "tqdm"}


def test_heavy_packages_are_not_loaded() -> None:
    """Extras are imported by the functions that need them, not by the package."""
    code = "import sys, superorm; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "superorm" in loaded
    assert set() == HEAVY & set(loaded)
