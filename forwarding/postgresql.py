"""postgresql://user@host/db?schema=events: a table in PostgreSQL. The other options are those of libpq.

A batch is one transaction, and a repeat of it changes nothing, from any collector.
"""

import os
import re
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from traceback import clear_frames
from urllib.parse import SplitResult, unquote

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from eventlog import StoredEvent

from . import postgresql_tables
from .delivery import Deliverer, DeliveryRejected, Outcome, RetryLater
from .postgresql_deletion import DEFAULT_SCHEMA

CONNECT_SECONDS = 10  # for each address, unless connect_timeout is set
STATEMENT_SECONDS = 60  # until the server cancels a statement
TRANSACTION_SECONDS = 120.0  # until the connection is cut
MAX_SCHEMA_BYTES = 63  # PostgreSQL cuts a longer name

# SQLSTATEs that an event of the batch causes: invalid data, a constraint, a limit of PostgreSQL. The exceptions are a
# sequence that was reset or has ended. All others come from the server, its settings or the network.
REJECTIONS = r"22(?!00H)|23(?!505)|54"

# After a crash, a server with synchronous_commit=off would lack events that are recorded as delivered.
BEGIN = """
SET LOCAL search_path = {schema};
SET LOCAL statement_timeout = {milliseconds};
SET LOCAL idle_in_transaction_session_timeout = {milliseconds};
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';
"""


def from_url(parts: SplitResult, options: dict[str, str]) -> "PostgreSQL":
    schema = options.pop("schema", DEFAULT_SCHEMA)
    if not schema.isprintable() or not 1 <= len(schema.encode()) <= MAX_SCHEMA_BYTES:
        raise ValueError(f"schema must be a name of at most {MAX_SCHEMA_BYTES} bytes")
    user, _, host = parts.netloc.rpartition("@")
    name, _, password = unquote(user).partition(":")
    given = {"user": name, "password": password, "dbname": unquote(parts.path.strip("/"))}
    timeout = os.environ.get("PGCONNECT_TIMEOUT", CONNECT_SECONDS)
    settings = {"connect_timeout": timeout, "fallback_application_name": "tracklog"}
    settings |= {name: value for name, value in given.items() if value} | options | {"client_encoding": "utf8"}
    try:
        return PostgreSQL(schema, make_conninfo(f"postgresql://{host}", **settings))
    except psycopg.Error as error:
        raise ValueError(str(error).strip()) from error


class PostgreSQL(Deliverer):
    """Inserts batches over one connection, which a failure closes."""

    max_events = 5000
    max_bytes = 4_000_000

    def __init__(self, schema: str, conninfo: str) -> None:
        self._schema = schema
        self._conninfo = conninfo
        self._connection: psycopg.Connection | None = None
        self._socket: socket.socket | None = None  # a duplicate of the connection's, for other threads
        self._aborted = False
        self._in_use = threading.Lock()

    def deliver(self, events: Sequence[StoredEvent]) -> Outcome:
        self._run(lambda connection: postgresql_tables.insert(connection, self._schema, events))
        return Outcome()

    def create(self) -> None:
        self._run(lambda connection: postgresql_tables.create(connection, self._schema))

    def abort(self) -> bool:
        self._aborted = True
        self._cut()
        return True  # a transaction that still commits is harmless, because its repeat changes nothing

    def close(self) -> None:
        # An aborted `deliver` that still runs disconnects itself: libpq allows only one thread to use a connection.
        if self._in_use.acquire(blocking=False):
            self._disconnect()
            self._in_use.release()

    def _run(self, work: Callable[[psycopg.Connection], None]) -> None:
        """Call `work` in a transaction, and commit it. Raises as `deliver` does."""
        with self._in_use:
            try:
                self._transact(work)
            except psycopg.Error as error:
                reason = " ".join((error.diag.message_primary or str(error)).split())
                if error.sqlstate and re.match(REJECTIONS, error.sqlstate):
                    raise DeliveryRejected(error.sqlstate, reason) from error
                self._disconnect()
                clear_frames(error.__traceback__)  # psycopg's frames refer to the socket of a failed connection
                raise RetryLater(f"{error.sqlstate}: {reason}" if error.sqlstate else reason) from error
            finally:
                if self._aborted:
                    self._disconnect()

    def _transact(self, work: Callable[[psycopg.Connection], None]) -> None:
        connection = self._connection or self._connect()
        timer = threading.Timer(TRANSACTION_SECONDS, self._cut)  # a server that is stopped cancels no statement
        timer.daemon = True
        timer.start()
        try:
            with connection.transaction():
                schema, milliseconds = sql.Identifier(self._schema), STATEMENT_SECONDS * 1000
                connection.execute(sql.SQL(BEGIN).format(schema=schema, milliseconds=milliseconds))
                work(connection)
        finally:
            timer.cancel()

    def _disconnect(self) -> None:
        for each in (self._connection, self._socket):
            if each:
                each.close()
        self._connection = self._socket = None

    def _connect(self) -> psycopg.Connection:
        # PgBouncer may give each transaction to another server, which lacks statements that were prepared.
        self._connection = psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        self._connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        self._socket = socket.socket(fileno=os.dup(self._connection.fileno()))
        if self._aborted:
            self._cut()
        return self._connection

    def _cut(self) -> None:
        """Make the thread that uses the connection fail."""
        with suppress(OSError):  # it is closed
            if duplicate := self._socket:
                duplicate.shutdown(socket.SHUT_RDWR)
