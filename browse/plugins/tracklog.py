"""Which log Datasette opens, and what of it is shown to nobody, whatever the query."""

import os
import sqlite3

import click
from datasette import hookimpl
from datasette.database import Database

#: What senders authenticate with: the Source IDs, a copy in the bodies that were refused, the keys in URLs.
SECRET = {("sources", "id"), ("rejected", "body"), ("destinations", "url"), ("sqlite_dbpage", "data")}


@hookimpl
def startup(datasette):
    path = os.environ.get("TRACKLOG_DATABASE", "tracklog.db")
    if not os.path.exists(path):
        raise click.ClickException(f"There is no log at {path}")
    # A database that is mutable is opened with mode=ro, and one that is not as if nobody wrote to it.
    datasette.add_database(Database(datasette, path=path, is_mutable=True), name="tracklog")


@hookimpl
def prepare_connection(conn):
    conn.set_authorizer(_allow)


def _allow(action, table, column, database, view):
    is_secret = action == sqlite3.SQLITE_READ and (table, column) in SECRET
    return sqlite3.SQLITE_IGNORE if is_secret else sqlite3.SQLITE_OK  # what is ignored reads as NULL
