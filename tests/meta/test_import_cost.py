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


def test_what_reads_and_writes_is_loaded_when_it_is_asked_for() -> None:
    """A program that declares documents, or uses one half, does not pay for the other."""
    code = (
        "import sys, superorm\n"
        "def halves(): return sorted({n.split('.')[1] for n in sys.modules if n.startswith('superorm.')}"
        " & {'_sync', '_async', 'compile'})\n"
        "class Film(superorm.Document): title: superorm.Mapped[str]\n"
        "superorm.select(Film).where(Film.title == 'Ran')\n"
        "print(halves()); superorm.AsyncSession; print(halves()); superorm.Session; print(halves())"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert loaded.splitlines() == ["[]", "['_async', 'compile']", "['_async', '_sync', 'compile']"]


def test_every_public_name_is_there() -> None:
    """The names that are loaded late too, each the same object whenever it is asked for."""
    code = (
        "import superorm\n"
        "first = {name: getattr(superorm, name) for name in superorm.__all__}\n"
        "assert first == {name: getattr(superorm, name) for name in superorm.__all__}\n"
        "assert {*superorm.__all__} <= {*dir(superorm)} and superorm.Datalayer is superorm.DB\n"
        "assert callable(superorm.connect)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
