-- What wrk sends and tells in `cargo xtask bench proxy`. Arguments: method, path, bytes of the
-- body, then the hosts, which it calls in turn.

local requests = {}
local at = 0

function init(args)
  local method, path, size = args[1], args[2], tonumber(args[3])
  local body = size > 0 and string.rep("x", size) or nil
  for i = 4, #args do
    requests[#requests + 1] = wrk.format(method, path, { ["Host"] = args[i] }, body)
  end
  -- Threads begin at different hosts.
  at = math.random(#requests) - 1
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"micros":%d,"bytes":%d,"p50":%d,"p99":%d,"max":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    latency.max, errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
