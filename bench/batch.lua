-- wrk script: POST /v1/batch with 100 of the API's own example, of a thousand users, each with a messageId of its own.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init()
  sent = 0
  prefix = string.format("%s-%d", os.getenv("BENCH_RUN"), number)
  wrk.method = "POST"
  wrk.headers["Authentication"] = "Basic SUxvdmVEYXRhMTIz"
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  local items = {}
  for item = 1, 100 do
    sent = sent + 1
    items[item] = string.format(
      '{"type": "track", "messageId": "%s-%d", "userId": "%d", "event": "Added File", "properties": {"fileTitle": ' ..
      '"Life, the Universe, and Everything", "fileSize": "509", "fileType": "PDF"}, ' ..
      '"timestamp": "2015-11-10T00:45:23.412Z"}', prefix, sent, sent % 1000)
  end
  return wrk.format(nil, "/v1/batch", nil, '{"batch": [' .. table.concat(items, ",") .. "]}")
end

function done(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
  io.write(string.format(
    'RESULT {"requests": %d, "failed": %d, "timeouts": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f}\n',
    summary.requests, failed, summary.errors.timeout, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
