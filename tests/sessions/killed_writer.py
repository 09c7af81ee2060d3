"""A process that commits unit after unit, says which are committed, and is killed."""

from __future__ import annotations

import itertools
import sys

from superorm import Session, connect
from tests.sessions.unit_of_work import Total, work


def main(uri: str, database: str, writer: str) -> None:
    """Commit units, numbered from 0 on, for ever."""
    with connect(uri, database=database, vector_database="memory://", signing_key="test-key") as db:
        with db.begin() as session:
            session.add(Total(id=writer))
        print("ready", flush=True)
        for unit in itertools.count():
            with Session(db) as session:
                work(session, writer, unit)
                session.commit()
            print(unit, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
