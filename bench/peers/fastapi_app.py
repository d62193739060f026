"""Serve the same API with FastAPI and pydantic: one connection per process, one commit per request.

Its best honest form: uvicorn with uvloop and httptools; the key is checked and the commit made in the loop, since
handing them to a thread costs more than waiting for them; SQLite with a write-ahead log, and on disk before the answer.
"""

import base64
import os
import sqlite3
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import AwareDatetime, BaseModel, ConfigDict

INSERT = """
    INSERT INTO events (source, message_id, type, user_id, name, timestamp, received_at, payload)
    VALUES (?, ?, 'track', ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""


class Track(BaseModel):
    model_config = ConfigDict(extra="allow")

    userId: str
    event: str
    properties: dict = {}
    timestamp: AwareDatetime | None = None
    messageId: str | None = None


class Batch(BaseModel):
    batch: list[Track]


@asynccontextmanager
async def lifespan(app):
    app.connection = sqlite3.connect(os.environ["PEER_DATABASE"], timeout=30, isolation_level=None)
    app.connection.execute("PRAGMA journal_mode = WAL")
    app.connection.execute("PRAGMA synchronous = FULL")
    app.connection.execute(
        """
        CREATE TABLE IF NOT EXISTS events (
            id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT, message_id TEXT, type TEXT, user_id TEXT,
            name TEXT, timestamp TEXT, received_at TEXT, payload TEXT, UNIQUE (source, message_id)
        )
        """
    )
    yield
    app.connection.close()


app = FastAPI(lifespan=lifespan)


async def find_source(authentication: str = Header("")):
    scheme, _, token = authentication.partition(" ")
    source = base64.b64decode(token).decode().partition(":")[0]
    if scheme != "Basic" or source != "ILoveData123":
        raise HTTPException(401)
    return source


@app.post("/v1/track")
async def track(event: Track, source: str = Depends(find_source)):
    row = row_of(source, event)
    app.connection.execute(INSERT, row)
    return {"success": True, "messageId": row[1]}


@app.post("/v1/batch")
async def batch(batch: Batch, source: str = Depends(find_source)):
    app.connection.execute("BEGIN IMMEDIATE")
    app.connection.executemany(INSERT, [row_of(source, event) for event in batch.batch])
    app.connection.execute("COMMIT")
    return {"success": True, "received": len(batch.batch)}


def row_of(source, event):
    received_at = datetime.now(UTC).isoformat()
    timestamp = event.timestamp.isoformat() if event.timestamp else received_at
    message_id = event.messageId or str(uuid.uuid4())
    return source, message_id, event.userId, event.event, timestamp, received_at, event.model_dump_json()
