"""Progress of long work: a callable, or a bar."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeAlias

from superorm.exc import ConfigurationError
from superorm.expr.reprs import short_repr

__all__ = ["Progress", "check_progress", "reporting"]

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with how much is done, how much there is in all, and what is being done."""


@contextmanager
def reporting(progress: Progress | bool | None) -> Generator[Progress | None]:
    """The callable for a ``progress=`` argument: as it was given, or for True one that shows tqdm bars.

    Raises `ConfigurationError` where True is given without tqdm, and for anything else.
    """
    if progress is None or progress is False:
        yield None
        return
    if progress is not True:
        yield _checked(progress)
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ConfigurationError(
            'progress=True needs tqdm: pip install "superorm-mongodb[progress]", or give a callable'
        ) from None
    bars: dict[str, Any] = {}

    def show(done: int, total: int, what: str) -> None:
        bar = bars.get(what)
        if bar is None:
            bar = bars[what] = tqdm(total=total, desc=what)
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()


def check_progress(progress: Progress | bool | None) -> None:
    """Raise `ConfigurationError` for what `reporting` does not take."""
    with reporting(progress):
        pass


def _checked(progress: object) -> Any:
    if not callable(progress):
        raise ConfigurationError(f"progress= takes True, or a callable (done, total, what), not {short_repr(progress)}")
    return progress
