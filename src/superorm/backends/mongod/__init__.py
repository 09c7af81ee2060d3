"""The private mongod: a one-member replica set in a directory of the user's, shared by the processes that use it.

.. code-block:: text

    user process ── shared lock on .superorm/users ──┐
    user process ── shared lock on .superorm/users ──┤
                                                     supervisor ── waits until nobody holds it, then stops mongod
                                                         └── mongod

Every lock is the kernel's and goes with the process that holds it, so a crash leaves nothing to clean up:

- ``users``: shared by each lease; the supervisor holds it alone while it stops mongod, so who comes then waits.
- ``server``: held by whoever starts the server, then by the supervisor and mongod together.
- ``supervisor``: the same without mongod, so that a server whose supervisor died is not taken for a good one.

mongod listens on a Unix socket only, in a directory of mode 0700 whose path ``.superorm/socket`` tells.
"""

from __future__ import annotations

from superorm.backends.mongod.binary import find_mongod
from superorm.backends.mongod.lease import MongodLease, open_mongod, wait_stopped

__all__ = ["MongodLease", "find_mongod", "open_mongod", "wait_stopped"]
