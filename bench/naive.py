"""Serve the naive version: Flask, with a connection and a commit per request. A peer in `make bench`.

For the same call it does the same work as tracklog (key, JSON, schema, row, disk), and SQLite's defaults make it
as durable.
"""

import base64
import json
import os
import sqlite3
import uuid
from datetime import UTC, datetime

from flask import Flask, jsonify, request
from marshmallow import INCLUDE, Schema, ValidationError, fields

app = Flask(__name__)


class Track(Schema):
    class Meta:
        unknown = INCLUDE

    userId = fields.String(required=True)
    event = fields.String(required=True)
    properties = fields.Dict()
    timestamp = fields.AwareDateTime(default_timezone=UTC)
    messageId = fields.String()


def connect():
    return sqlite3.connect(os.environ["NAIVE_DATABASE"], timeout=30)


with connect() as connection:
    connection.execute(
        """
        CREATE TABLE IF NOT EXISTS events (
            id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT, message_id TEXT, type TEXT, user_id TEXT,
            name TEXT, timestamp TEXT, received_at TEXT, payload TEXT, UNIQUE (source, message_id)
        )
        """
    )
connection.close()


@app.post("/v1/track")
def track():
    scheme, _, token = request.headers.get("Authentication", "").partition(" ")
    source = base64.b64decode(token).decode().partition(":")[0]
    if scheme != "Basic" or source != "ILoveData123":
        return jsonify(success=False, code="unknown_source"), 401
    try:
        event = Track().load(request.get_json())
    except ValidationError as error:
        return jsonify(success=False, errors=error.messages), 400
    received_at = datetime.now(UTC).isoformat()
    message_id = event.get("messageId") or str(uuid.uuid4())
    connection = connect()
    with connection:
        connection.execute(
            """
            INSERT INTO events (source, message_id, type, user_id, name, timestamp, received_at, payload)
            VALUES (?, ?, 'track', ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
            """,
            (
                source,
                message_id,
                event["userId"],
                event["event"],
                str(event.get("timestamp", received_at)),
                received_at,
                json.dumps(event, default=str),
            ),
        )
    connection.close()
    return jsonify(success=True, messageId=message_id)
