// The same service with fastify and better-sqlite3, in two processes: a commit for every request.
// Its best honest form: schemas compiled by ajv, prepared statements, a write-ahead log, on disk before the answer.

const cluster = require("node:cluster");
const { randomUUID } = require("node:crypto");
const Database = require("better-sqlite3");

const [port, path] = process.argv.slice(2);

const track = {
  type: "object",
  required: ["userId", "event"],
  properties: {
    userId: { type: "string" },
    event: { type: "string" },
    properties: { type: "object" },
    timestamp: { type: "string", format: "date-time" },
    messageId: { type: "string" },
  },
};
const batch = { type: "object", required: ["batch"], properties: { batch: { type: "array", items: track } } };

function open() {
  const database = new Database(path, { timeout: 30000 });
  database.pragma("journal_mode = WAL");
  database.pragma("synchronous = FULL");
  database.exec(`
    CREATE TABLE IF NOT EXISTS events (
      id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT, message_id TEXT, type TEXT, user_id TEXT,
      name TEXT, timestamp TEXT, received_at TEXT, payload TEXT, UNIQUE (source, message_id)
    )`);
  return database;
}

function serve() {
  const database = open();
  const insert = database.prepare(`
    INSERT INTO events (source, message_id, type, user_id, name, timestamp, received_at, payload)
    VALUES (?, ?, 'track', ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`);
  const store = (source, event) => {
    const receivedAt = new Date().toISOString();
    const messageId = event.messageId ?? randomUUID();
    const timestamp = event.timestamp ? new Date(event.timestamp).toISOString() : receivedAt;
    insert.run(source, messageId, event.userId, event.event, timestamp, receivedAt, JSON.stringify(event));
    return messageId;
  };
  const storeAll = database.transaction((source, events) => events.forEach((event) => store(source, event)));

  const app = require("fastify")({ bodyLimit: 8 * 1024 * 1024 });
  app.decorateRequest("source", null);
  app.addHook("onRequest", async (request, reply) => {
    const [scheme, token = ""] = (request.headers.authentication ?? "").split(" ");
    request.source = Buffer.from(token, "base64").toString().split(":")[0];
    if (scheme !== "Basic" || request.source !== "ILoveData123") {
      return reply.code(401).send({ success: false, code: "unknown_source" });
    }
  });
  app.post("/v1/track", { schema: { body: track } }, (request, reply) => {
    reply.send({ success: true, messageId: store(request.source, request.body) });
  });
  app.post("/v1/batch", { schema: { body: batch } }, (request, reply) => {
    storeAll.immediate(request.source, request.body.batch);
    reply.send({ success: true, received: request.body.batch.length });
  });
  app.listen({ port: Number(port), host: "127.0.0.1" });
}

if (cluster.isPrimary) {
  open().close();
  for (let worker = 0; worker < 2; worker++) cluster.fork();
  process.on("SIGTERM", () => process.exit());
} else {
  serve();
}
