-- wrk script: POST the API's own example, one or BENCH_BATCH of a thousand users, each with a random messageId.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init()
  -- The clock tells this run's ids from every other's.
  math.randomseed(tonumber(os.getenv("BENCH_RUN")) + number)
  batch = tonumber(os.getenv("BENCH_BATCH"))
  path = os.getenv("BENCH_PATH")
  is_records = path:find("/api/", 1, true)  -- PocketBase's own shape
  wrk.method = "POST"
  wrk.headers["Authentication"] = "Basic SUxvdmVEYXRhMTIz"
  wrk.headers["Content-Type"] = "application/json"
  if os.getenv("BENCH_CLOSE") then wrk.headers["Connection"] = "close" end
  sent = 0
end

local function message_id()
  local random = math.random
  return string.format("%08x-%04x-4%03x-a%03x-%08x%04x", random(0, 0x7fffffff), random(0, 0xffff), random(0, 0xfff),
    random(0, 0xfff), random(0, 0x7fffffff), random(0, 0xffff))
end

local function event(start)
  sent = sent + 1
  return string.format(
    '{%s"messageId": "%s", "userId": "%d", "event": "Added File", "properties": {"fileTitle": ' ..
    '"Life, the Universe, and Everything", "fileSize": "509", "fileType": "PDF"}, ' ..
    '"timestamp": "2015-11-10T00:45:23.412Z"}', start, message_id(), sent % 1000)
end

function request()
  if batch == 1 then return wrk.format(nil, path, nil, event("")) end
  local items = {}
  for item = 1, batch do
    if is_records then
      items[item] = '{"method": "POST", "url": "/api/collections/events/records", "body": ' .. event("") .. "}"
    else
      items[item] = event('"type": "track", ')
    end
  end
  local name = is_records and "requests" or "batch"
  return wrk.format(nil, path, nil, '{"' .. name .. '": [' .. table.concat(items, ",") .. "]}")
end

function done(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
  io.write(string.format(
    'RESULT {"requests": %d, "failed": %d, "timeouts": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f}\n',
    summary.requests, failed, summary.errors.timeout, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
