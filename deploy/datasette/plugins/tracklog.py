"""Open the log in Datasette, and check users' SQL with the guard."""

import os
import re
import sqlite3
from contextvars import ContextVar
from pathlib import Path

import click
import guard
from datasette import Request, Response, hookimpl
from datasette.database import Database

#: The allowed Host headers. A foreign site that resolves to this machine (DNS rebinding) sends another one.
LOCAL_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)

#: Whether all SQL of the current request is shipped in metadata.yaml.
has_shipped_sql = ContextVar("has_shipped_sql", default=False)


class Log(Database):
    def connect(self, write=False):
        return sqlite3.connect(f"{Path(self.path).absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)

    async def execute(self, sql, params=None, **options):
        if not (has_shipped_sql.get() and guard.is_covered_by_authorizer(sql)):
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
    """Serve local hosts only, and record for each request whether it contains a user's own SQL."""
    shipped = set(_shipped_sql(datasette.metadata()))

    def wrap(app):
        async def serve(scope, receive, send):
            if scope["type"] == "http":
                request = Request(scope, receive)
                if not LOCAL_HOST.fullmatch(request.headers.get("host", "")):
                    return await Response.text("This host name is not served", status=421).asgi_send(send)
                # Datasette takes SQL from these two arguments only. It binds or quotes all others.
                has_shipped_sql.set({*request.args.getlist("sql")} <= shipped and "_where" not in request.args)
            await app(scope, receive, send)

        return serve

    return wrap


def _shipped_sql(metadata):
    """Yield the SQL of the ready-made queries and of the charts. The browser sends a chart's SQL back."""
    for query in metadata["databases"]["tracklog"]["queries"].values():
        yield query["sql"]
    for dashboard in metadata["plugins"]["datasette-dashboards"].values():
        for chart in dashboard["charts"].values():
            yield chart["query"]
