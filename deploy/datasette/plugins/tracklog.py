"""Open the log in Datasette, and check users' SQL with the guard."""

import os
import pwd
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import click
import guard
from datasette import Request, Response, hookimpl
from datasette.app import Datasette
from datasette.database import Database

#: The allowed Host headers. A foreign site that resolves to this machine (DNS rebinding) sends another one.
LOCAL_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)

#: True if the current request contains no SQL other than that of metadata.yaml.
has_shipped_sql = ContextVar("has_shipped_sql", default=False)

AsgiApp = Callable[[dict[str, Any], Callable[..., Awaitable[Any]], Callable[..., Awaitable[None]]], Awaitable[None]]


class Log(Database):
    """The event log, opened read-only. Checks each statement that is not shipped before it runs."""

    def connect(self, write: bool = False) -> sqlite3.Connection:
        return sqlite3.connect(f"{Path(self.path).absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)

    async def execute(self, sql: str, params: Any = None, **options: Any) -> Any:
        if not (has_shipped_sql.get() and guard.is_covered_by_authorizer(sql)):
            await self.execute_fn(lambda connection: guard.check(connection, sql, params or {}))
        return await super().execute(sql, params, **options)


@hookimpl
def startup(datasette: Datasette) -> None:
    """Add the log that TRACKLOG_DATABASE names."""
    path = os.environ.get("TRACKLOG_DATABASE", "tracklog.db")
    if not os.path.exists(path):
        raise click.ClickException(f"There is no log at {path}")
    owner = os.stat(path).st_uid
    if os.geteuid() == 0 != owner:  # a web server needs no more than the service's rights
        raise click.ClickException(f"Run this as the owner of {path}: runuser -u {_user_name(owner)} -- make browse")
    datasette.add_database(Log(datasette, path=path, is_mutable=True), name="tracklog")


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@hookimpl
def prepare_connection(conn: sqlite3.Connection, database: str) -> None:
    """Hide the secret columns of the log. No database may attach another one."""
    if database == "tracklog":
        guard.prepare(conn)
    else:
        conn.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)


@hookimpl
def asgi_wrapper(datasette: Datasette) -> Callable[[AsgiApp], AsgiApp]:
    """Serve local hosts only, and record for each request whether it contains a user's own SQL."""
    shipped = set(_shipped_sql(datasette.metadata()))

    def wrap(app: AsgiApp) -> AsgiApp:
        async def serve(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
            if scope["type"] == "http":
                request = Request(scope, receive)
                if not LOCAL_HOST.fullmatch(request.headers.get("host", "")):
                    await Response.text("This host name is not served", status=421).asgi_send(send)
                    return
                # Datasette takes SQL from these two arguments only. It binds or quotes all others.
                has_shipped_sql.set({*request.args.getlist("sql")} <= shipped and "_where" not in request.args)
            await app(scope, receive, send)

        return serve

    return wrap


def _shipped_sql(metadata: dict[str, Any]) -> Iterator[str]:
    """Yield the SQL of the ready-made queries and of the charts. The browser sends a chart's SQL back."""
    for query in metadata["databases"]["tracklog"]["queries"].values():
        yield query["sql"]
    for dashboard in metadata["plugins"]["datasette-dashboards"].values():
        for chart in dashboard["charts"].values():
            yield chart["query"]
