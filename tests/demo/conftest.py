"""The demo's modules are scripts in a folder, not a package."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "examples" / "recipes"), str(ROOT / "benchmarks")]
