"""The generator of the synchronous twins, and that the committed ones are what it makes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import synchro

SOURCE = '''"""How an AsyncSession reads: ``await session.get(...)``, an asynchronous call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

from pymongo.asynchronous.client_session import AsyncClientSession

from superorm._async.db import AsyncDB
from superorm._io import aio


class AsyncThing:
    async def __aenter__(self) -> AsyncThing:
        return self

    async def run(self, work: Callable[[AsyncDB], Awaitable[list[int]]], db: AsyncDB) -> list[int]:
        async with db.lock, aio.Lock():  # an AsyncDB has one lock
            first = (await work(db))[0]
            return [first, *[row async for row in self.rows() if await row.ok()]]

    @asynccontextmanager
    async def rows(self) -> AsyncIterator[int]:
        async for row in self:
            yield await row.pop()

    def __repr__(self) -> str:
        return f"{type(self)!r} of {{AsyncThing}} with {self.run!r}"


def both(session: AsyncClientSession, names: Iterator[str]) -> None:
    raise LookupError("await the end of AsyncDB.run")
'''

TWIN = '''"""How a Session reads: ``session.get(...)``, a synchronous call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pymongo.synchronous.client_session import ClientSession

from superorm._io import sio
from superorm._sync.db import DB


class Thing:
    def __enter__(self) -> Thing:
        return self

    def run(self, work: Callable[[DB], list[int]], db: DB) -> list[int]:
        with db.lock, sio.Lock():  # a DB has one lock
            first = work(db)[0]
            return [first, *[row for row in self.rows() if row.ok()]]

    @contextmanager
    def rows(self) -> Iterator[int]:
        for row in self:
            yield row.pop()

    def __repr__(self) -> str:
        return f"{type(self)!r} of {{Thing}} with {self.run!r}"


def both(session: ClientSession, names: Iterator[str]) -> None:
    raise LookupError("await the end of DB.run")
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one asynchronous module and no twin."""
    shutil.copy(synchro.ROOT / "pyproject.toml", tmp_path)
    folder = tmp_path / "src/superorm/deep/_async/er"
    folder.mkdir(parents=True)
    (folder / "thing.py").write_text(SOURCE)
    return tmp_path


TWIN_PATH = Path("src/superorm/deep/_sync/er/thing.py")


def stale(project: Path) -> list[str]:
    """What the check reports, dead rules aside: a small project leaves most of them unused."""
    return [problem for problem in synchro.check(project) if "nothing uses the rule" not in problem]


def test_writes_the_twin(project: Path) -> None:
    """Each construct of the source comes out in its plain form, under a header that names the source."""
    assert [] == synchro.write(project)
    header, _, text = (project / TWIN_PATH).read_text().partition("\n")
    assert "src/superorm/deep/_async/er/thing.py" in header
    assert TWIN == text
    assert [] == stale(project)


def test_a_second_run_changes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written where nothing changed."""
    synchro.write(project)
    capsys.readouterr()
    synchro.write(project)
    assert "" == capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = (await f(a)).b", "x = f(a).b"),
        ("x = (await f(a) or 1).b", "x = (f(a) or 1).b"),
        ("x = (await f(a), 1)", "x = (f(a), 1)"),
        ("g(await f(a))", "g(f(a))"),
        ("g((await f)(a))", "g(f(a))"),
        ("x = not (await f(a))", "x = not f(a)"),
        ("x = await (f if a else b)()", "x = (f if a else b)()"),
        ("x = d[await f(a)]", "x = d[f(a)]"),
        ("await (\n    f()\n)", "(\n    f()\n)"),
        ("x = (  # why\n    await f(a)\n)", "x = (  # why\n    f(a)\n)"),
        ("x = f'{await f(a)} {_AsyncB}'", "x = f'{f(a)} {_B}'"),
        ("x = Async, AsyncB, asyncio, my_async, _async", "x = Async, B, asyncio, my_async, _sync"),
        ("import pytest_asyncio", "import pytest"),
    ],
)
def test_translates(source: str, expected: str) -> None:
    """Parentheses go where only the await needed them, and names are replaced whole or not at all."""
    assert f"def h():\n {expected}\n" == synchro.Translation().source(f"async def h():\n {source}\n")


def test_check_reports_what_is_missing(project: Path) -> None:
    """A source without a twin is reported, and the check writes nothing."""
    assert [f"{TWIN_PATH}: missing"] == stale(project)
    assert not (project / TWIN_PATH).exists()


def test_check_reports_an_edit(project: Path) -> None:
    """A twin edited by hand is reported."""
    synchro.write(project)
    with (project / TWIN_PATH).open("a") as file:
        file.write("x = 1\n")
    assert [f"{TWIN_PATH}: stale, or edited by hand"] == stale(project)


def test_a_removed_source_takes_its_twin_along(project: Path) -> None:
    """The check reports an orphan, and writing removes it."""
    synchro.write(project)
    (project / "src/superorm/deep/_async/er/thing.py").unlink()
    assert [f"{TWIN_PATH}: orphaned, its source has gone"] == stale(project)
    assert [] == synchro.write(project)
    assert not (project / TWIN_PATH).exists()


def test_a_module_written_by_hand_is_kept(project: Path) -> None:
    """A module that was not generated is never deleted, only reported."""
    stray = project / "src/superorm/deep/_sync/stray.py"
    stray.parent.mkdir(parents=True)
    stray.write_text("x = 1\n")
    (problem,) = synchro.write(project)
    assert "_sync/stray.py" in problem
    assert stray.exists()


def test_a_broken_source_stops_nothing_else(project: Path) -> None:
    """A source that does not parse is reported, and the others are written."""
    (project / "src/superorm/deep/_async/broken.py").write_text("def (:\n")
    (problem,) = synchro.write(project)
    assert problem.startswith("src/superorm/deep/_async/broken.py: does not parse")
    assert (project / TWIN_PATH).exists()


def test_check_reports_a_dead_rule(project: Path) -> None:
    """A replacement that no source needs is reported."""
    problems = synchro.check(project)
    assert "tools/synchro.py: nothing uses the rule for 'connect_async'" in problems
    assert "tools/synchro.py: nothing uses the rule for 'aio'" not in problems
