-- Loads the front with requests for one page, compares every answer, and counts who gave it.
local file = assert(io.open("/run/site/page"))
local expected = file:read("*a")
file:close()

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(_)
  wrong, web1, web2 = 0, 0, 0
end

-- A pause before each request of a connection, in ms: users who read, not a flood.
function delay()
  return 250
end

function response(status, headers, body)
  if status ~= 200 or body ~= expected then wrong = wrong + 1 end
  local backend = headers["X-Backend"] or ""
  if backend:find("10.78.0.3:80$") then web2 = web2 + 1 else web1 = web1 + 1 end
end

function done(summary, _, _)
  local thread, errors = threads[1], summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    "ROUND requests=%d web1=%d web2=%d wrong=%d broken=%d\n", summary.requests,
    thread:get("web1"), thread:get("web2"), thread:get("wrong"), broken
  ))
end
