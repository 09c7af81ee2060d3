"""That one session is not used by two threads or tasks at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import wraps
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar, cast

from superorm._io import aio
from superorm.exc import SessionError

if TYPE_CHECKING:
    from superorm._async.unit_of_work import AsyncUnitOfWork

__all__ = ["AsyncAlone", "alone"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class AsyncAlone:
    """Who is inside one of a session's calls, which nobody else may enter meanwhile.

    One call after another may come from anywhere; within a call the same thread or task may make others.
    """

    __slots__ = ("_call", "_lock", "_user", "unclosed", "work")

    def __init__(self, work: AsyncUnitOfWork) -> None:
        self.work = work
        self._lock = Lock()
        self.unclosed: SessionError | None = None
        """Why `close` was refused during the call."""
        self._user: object = None
        self._call = ""

    def enter(self, call: str) -> bool:
        """Begin a call; whether it is an outermost one, to be ended by `leave`. Raises `SessionError`."""
        me = aio.caller()
        if not self._lock.acquire(False):
            if self._user == me:
                return False
            self._refuse(call, me)
        self._user = me
        self._call = call
        return True

    async def leave(self) -> None:
        """End an outermost call, and before that the transaction, if `close` was refused."""
        me = self._user
        while True:
            try:
                if self.unclosed is not None:
                    await self._abandon()
            finally:
                self._user = None
                self._lock.release()
            # a close() may have been refused after that look; where somebody is inside now, they see to it
            if self.unclosed is None or not self._lock.acquire(False):
                return
            self._user = me

    async def _abandon(self) -> None:
        """End the transaction, which nobody else will end where `close` was refused."""
        unclosed, self.unclosed = self.unclosed, None
        if unclosed is not None:
            await self.work.abandoned(unclosed)

    def check(self, call: str) -> None:
        """Raise `SessionError` where somebody else is inside a call."""
        if self._user is not None and self._user != (me := aio.caller()):
            self._refuse(call, me)

    def _refuse(self, call: str, me: object) -> None:
        """Raise `SessionError`; a `close` goes on where the other call has just ended, and the lock is held then."""
        error = SessionError(
            f"{call}() was called in {aio.name_of(me)} while {self._call}() runs in {aio.name_of(self._user)}; "
            "a session belongs to one thread or task at a time: give each its own, with db.session()"
        )
        if call == "close":
            self.unclosed = error
            if self._lock.acquire(False):  # the other call ended before it could see that
                self.unclosed = None
                return
        raise error

    async def batches(self, call: str, found: AsyncGenerator[T]) -> AsyncGenerator[T]:
        """The same batches; reading one is a call, what is done between two is not."""
        try:
            while True:
                outermost = self.enter(call)
                try:
                    batch = await anext(found)
                except StopAsyncIteration:
                    return
                except BaseException as error:
                    self.work.interrupted(error)
                    raise
                finally:
                    if outermost:
                        await self.leave()
                yield batch
        finally:
            await found.aclose()


def alone(method: F) -> F:
    """Make a session's method a call that is made alone, and after whose interruption it asks for a rollback."""
    name = method.__name__

    @wraps(method)
    async def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        use: AsyncAlone = self._alone
        outermost = use.enter(name)
        try:
            return await method(self, *args, **kwargs)
        except BaseException as error:
            use.work.interrupted(error)
            raise
        finally:
            if outermost:
                await use.leave()

    return cast("F", guarded)
