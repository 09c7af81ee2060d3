"""How transactions see, without a command of their own, whether another version of a model was announced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import ObjectId

from superorm.compile.plan import Find
from superorm.unitofwork.writes import Update, UpdateOp
from superorm.vectors.records import COLLECTION, MODELS

if TYPE_CHECKING:
    from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["AsyncAnnouncements", "look"]


class AsyncAnnouncements:
    """A token beside the records, which is another one after each announcement, of whatever index.

    Nothing of this is done where there are no transactions.
    """

    def __init__(self, backend: AsyncDataBackend) -> None:
        self._backend = backend
        self._token: Any = None

    async def prepare(self) -> None:
        """Make a token, unless there is one."""
        if (await self._backend.capabilities()).transactions:
            await self._write({"$setOnInsert": _new()})

    async def announce(self) -> None:
        """Tell all transactions that are begun from now on."""
        await self._write({"$set": _new()})

    async def _write(self, change: dict[str, Any]) -> None:
        await self._backend.write(Update(COLLECTION, [UpdateOp(q={"_id": MODELS}, u=change, upsert=True)]))

    async def token(self) -> Any:
        """The token that was read last, or now; None where there is none.

        As long as it stands in the database, nothing was announced since.
        """
        if self._token is None and (await self._backend.capabilities()).transactions:
            found = await self._backend.read(Find(COLLECTION, {"_id": MODELS}))
            self._token = found[0]["token"] if found else None
        return self._token

    def knows(self, token: Any) -> bool:
        """Whether that is the one that was read last."""
        return token is not None and token == self._token

    def forget(self, token: Any) -> None:
        """It does not stand any more."""
        if self._token == token:
            self._token = None


def look(token: Any) -> UpdateOp:
    """What matches while the token stands, in the snapshot of its transaction.

    It changes nothing, and so is in conflict with nothing.
    """
    return UpdateOp(q={"_id": MODELS, "token": token}, u={"$set": {"kind": MODELS}})


def _new() -> dict[str, Any]:
    return {"kind": MODELS, "token": ObjectId()}
