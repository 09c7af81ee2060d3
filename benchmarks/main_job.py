"""The main job against the same job glued by hand: ``python benchmarks/main_job.py [--quick]``.

Both programs run as a user runs them, by turns, each run in directories of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import Time, code_lines, interleave, run_until, table, timed

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "examples" / "recipes"
DEMO = RECIPES / "demo.py"
BY_HAND = ROOT / "benchmarks" / "by_hand.py"
HEAVY = ("torch", "lancedb", "boto3", "dask", "fastapi")

STORED = "Stored and embedded"
"""What both programs print after the commit."""
ANSWER = "Warm Salad with Chicken, Eggplant"
"""The first answer of both."""


class Program:
    """A script that keeps everything under one home directory."""

    def __init__(self, script: Path, folder: Path) -> None:
        self.script = script
        self.folder = folder
        self.runs = 0

    def homes(self) -> dict[str, str]:
        """The environment of the current home."""
        home = self.folder / f"{self.script.stem}{self.runs}"
        home.mkdir(exist_ok=True)
        return {"XDG_DATA_HOME": str(home / "data"), "XDG_CONFIG_HOME": str(home / "config")}

    def first(self) -> Time:
        """A run in a new home, timed until all is stored."""
        self.runs += 1
        return run_until([sys.executable, self.script], STORED, self.homes())

    def again(self) -> Time:
        """One more run in the last home, timed until the first answer."""
        return run_until([sys.executable, self.script], ANSWER, self.homes())


def queries(demo: Program, glue: Program, runs: int) -> dict[str, Time]:
    """The query with its filters, by both in this process, warm."""
    os.environ.update(demo.homes())
    sys.path[:0] = [str(RECIPES), str(BY_HAND.parent)]
    import by_hand
    from demo import warm
    from superorm import Session, connect

    with ExitStack() as stack:
        db = stack.enter_context(connect())
        folder = Path(glue.homes()["XDG_DATA_HOME"]) / "recipes-by-hand"
        client = stack.enter_context(by_hand.private_mongod(folder))
        encoder = by_hand.load_encoder(client.recipes, "minilm")
        assert encoder is not None
        rows = by_hand.open_table(folder)

        def ours() -> list[str]:
            with Session(db) as session:
                return [recipe.id for recipe, _ in session.execute(warm)]

        def theirs() -> list[str]:
            return [doc["_id"] for doc, _ in by_hand.search(client.recipes, encoder, rows)]

        if ours() != theirs():
            print(f"the answers differ:\n  superorm  {ours()}\n  by hand   {theirs()}\n")
        interleave({"superorm": timed(ours), "by hand": timed(theirs)}, 10)
        return interleave({"superorm": timed(ours), "by hand": timed(theirs)}, runs)


def importing(code: str) -> Callable[[], Time]:
    """A fresh interpreter that runs the code."""
    return lambda: run_until([sys.executable, "-c", code], None)


def heavy_modules() -> str:
    """Which heavy packages `import superorm` loads."""
    code = f"import superorm, sys; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip() or "none"


def line(what: str, times: Mapping[str, Time], most: float) -> list[str]:
    """A row of the table, from the times of superorm and of the other one."""
    a, b = times.values()
    return [what, _seconds(a.wall), _seconds(b.wall), f"{a.wall / b.wall:.2f}", f"{a.cpu / b.cpu:.2f}", f"{most}"]


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few runs: a look, not a measurement")
    first, second, query, imports = (1, 3, 50, 5) if parser.parse_args().quick else (3, 9, 300, 15)
    rows = [["what", "superorm", "by hand", "ratio", "CPU ratio", "at most"]]
    with TemporaryDirectory(prefix="superorm-bench-") as name:
        demo, glue = Program(DEMO, Path(name)), Program(BY_HAND, Path(name))
        times = interleave({"superorm": demo.first, "by hand": glue.first}, first)
        rows.append(line(f"first run, to the commit ({first}x)", times, 1.1))
        times = interleave({"superorm": demo.again, "by hand": glue.again}, second)
        rows.append(line(f"second run, to the first answer ({second}x)", times, 1.3))
        rows.append(line(f"like with filters, warm ({query}x)", queries(demo, glue, query), 1.2))
    parts = importing("import pymongo, attrs, numpy")
    times = interleave({"superorm": importing("import superorm"), "parts": parts}, imports)
    rows.append(line(f"import; by hand: pymongo, attrs, numpy ({imports}x)", times, 1.5))
    ours, theirs = code_lines(DEMO, RECIPES / "recipes.py"), code_lines(BY_HAND)
    rows.append(["lines of the user's code", str(ours), str(theirs), f"{ours / theirs:.2f}", "", "0.5"])
    table(rows)
    print("\nMedians. CPU time is the program's own, to its end; servers are not counted.")
    print(f"Heavy packages that `import superorm` loads: {heavy_modules()}.")


if __name__ == "__main__":
    main()
