"""Serve the live page, and give the dashboards their texts for empty charts."""

import asyncio
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import news
from datasette import Request, Response, hookimpl
from datasette.app import Datasette
from datasette.utils import sqlite_timelimit

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


@hookimpl
def register_routes() -> list[tuple[str, Any]]:
    return [(r"^/-/live$", live)]


@hookimpl
def menu_links(datasette: Datasette) -> list[dict[str, str]]:
    return [{"href": datasette.urls.path("/-/live"), "label": "Live"}]


@hookimpl
def extra_js_urls(template: str) -> list[str]:
    return ["/static/charts.js"] if template.startswith("dashboard_") else []


async def live(datasette: Datasette, request: Request) -> Response:
    """Answer with the page. A page that refreshes itself says what it has seen, and gets only what it has not."""
    seen = news.Position(*(_number(request.args.get(name)) for name in news.Position._fields))
    source = request.args.get("source") or ""
    path = datasette.get_database("tracklog").path
    try:
        content = await asyncio.to_thread(_read, path, source, seen, datasette.setting("sql_time_limit_ms"))
    except sqlite3.Error as error:
        return Response.text(f"The log cannot be read now: {error}", status=503, headers=HEADERS)
    content |= {"log": os.path.abspath(path), "today": datetime.now(UTC).date().isoformat()}
    html = await datasette.render_template("live.html", content, request=request)
    return Response.html(html, headers=HEADERS)


def _read(path: str, source: str, seen: news.Position, limit_ms: int) -> dict[str, Any]:
    with closing(news.connect(path)) as connection, sqlite_timelimit(connection, limit_ms):
        return news.read_news(connection, source, seen)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 16 else -1
