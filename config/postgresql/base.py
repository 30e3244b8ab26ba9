"""Connections from the pool are looked at before they are handed out, and one dead connection condemns the rest.

The pool's own check goes on to the next idle connection after a pause of 1, 2, 4, … seconds. After a restart of the
database all of them are dead, so whoever asks first waits its ten seconds out and gets an error although the database
is back.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base
from psycopg import OperationalError
from psycopg_pool import ConnectionPool


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's wrapper; the setting `CONN_HEALTH_CHECKS` stays off, since the check is made here."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Give a living connection; without one within the pool's timeout raise psycopg's `PoolTimeout`."""
        connection = super().get_new_connection(conn_params)
        if self.pool is None:
            return connection
        try:
            ConnectionPool.check_connection(connection)
        except OperationalError:
            self.pool.putconn(connection)
            self.pool.drain()
            # Nothing idle is left: what comes now was connected after the check.
            connection = super().get_new_connection(conn_params)
        return connection
