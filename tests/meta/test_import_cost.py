"""What ``import superorm`` loads."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"boto3", "dask", "distributed", "fastapi", "lancedb", "mongomock", "pyarrow", "tokenizers", "torch", "tqdm"}
HEAVY |= {"PIL", "cloudpickle", "safetensors", "sklearn", "transformers"}


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
        "late = {'superorm._async.db', 'superorm._sync.db', 'superorm.compile.compiler'}\n"
        "def loaded(): return sorted(late & {*sys.modules})\n"
        "class Film(superorm.Document): title: superorm.Mapped[str]\n"
        "superorm.select(Film).where(Film.title == 'Ran')\n"
        "print(loaded()); superorm.AsyncDB; print(loaded()); superorm.DB; print(loaded())"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    compiler = "'superorm.compile.compiler'"
    assert [
        "[]",
        f"['superorm._async.db', {compiler}]",
        f"['superorm._async.db', 'superorm._sync.db', {compiler}]",
    ] == (loaded.splitlines())


def test_vector_databases_are_loaded_when_they_are_used() -> None:
    """One in memory loads nothing of the others, nor of encoding anew."""
    code = (
        "import sys, superorm\n"
        "def loaded(): return [name for name in ('atlas', 'memory', 'tables', 'reencode')\n"
        "                      if f'superorm._sync.vector_{name}' in sys.modules]\n"
        "superorm.DB; print(loaded())\n"
        "with superorm.connect('mongomock://shop'): print(loaded(), 'superorm.vectors._sync.lancedb' in sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert ["[]", "['memory'] False"] == loaded.splitlines()


def test_statements_show_themselves_before_anything_is_connected() -> None:
    """Their pipelines and plans are there without a DB."""
    code = (
        "import superorm\n"
        "class Film(superorm.Document): title: superorm.Mapped[str]\n"
        "print(superorm.select(Film).where(Film.title == 'Ran').pipeline(), superorm.delete(Film).all().plan())"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "[{'$match': {'title': 'Ran'}}] {'delete': 'film', 'deletes': [{'q': {}, 'limit': 0}]}" == shown.strip()


def test_every_public_name_is_there() -> None:
    """The names that are loaded late too, each the same object whenever it is asked for."""
    code = (
        "import superorm\n"
        "first = {name: getattr(superorm, name) for name in superorm.__all__}\n"
        "assert first == {name: getattr(superorm, name) for name in superorm.__all__}\n"
        "assert {*superorm.__all__} <= {*dir(superorm)} and superorm.Datalayer is superorm.DB\n"
        "assert callable(superorm.connect)\n"
        "assert not {'shown', 'printing'} & {*dir(superorm)} and 'connect' in dir(superorm)\n"
        "assert dir(superorm) == sorted({*vars(superorm), *superorm.__all__})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
