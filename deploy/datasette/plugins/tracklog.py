"""Let Datasette open the log, and only statements of its own read the tables that hold secrets."""

import os
import re
import sqlite3
from contextvars import ContextVar
from pathlib import Path

import click
import guard
from datasette import Request, Response, hookimpl
from datasette.database import Database

#: The names under which a browser reaches this machine. A page of another site that resolves to it has another.
HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)

#: Whether all SQL of the request that is served is the page's own.
has_own_sql = ContextVar("has_own_sql", default=False)


class Log(Database):
    def connect(self, write=False):
        return sqlite3.connect(f"{Path(self.path).absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)

    async def execute(self, sql, params=None, **options):
        if not (has_own_sql.get() and guard.is_safe_if_own(sql)):
            await self.execute_fn(lambda connection: guard.check(connection, sql, params or {}))
        return await super().execute(sql, params, **options)


@hookimpl
def startup(datasette):
    path = os.environ.get("TRACKLOG_DATABASE", "tracklog.db")
    if not os.path.exists(path):
        raise click.ClickException(f"There is no log at {path}")
    datasette.add_database(Log(datasette, path=path, is_mutable=True), name="tracklog")


@hookimpl
def prepare_connection(conn, database):
    if database == "tracklog":
        guard.prepare(conn)
    else:
        conn.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)


@hookimpl
def asgi_wrapper(datasette):
    """Answer this machine only, and note for each request whether a person has written SQL for it."""
    own = set(_own_sql(datasette.metadata()))

    def wrap(app):
        async def serve(scope, receive, send):
            if scope["type"] == "http":
                request = Request(scope, receive)
                if not HOST.fullmatch(request.headers.get("host", "")):
                    return await Response.text("This host is not served here", status=421).asgi_send(send)
                # Datasette takes SQL from these two arguments only; all else is bound, or is a name that it quotes.
                has_own_sql.set({*request.args.getlist("sql")} <= own and "_where" not in request.args)
            await app(scope, receive, send)

        return serve

    return wrap


def _own_sql(metadata):
    """Yield the SQL of the ready queries and of the charts, whose pages send it from the browser."""
    for query in metadata["databases"]["tracklog"]["queries"].values():
        yield query["sql"]
    for dashboard in metadata["plugins"]["datasette-dashboards"].values():
        for chart in dashboard["charts"].values():
            yield chart["query"]
