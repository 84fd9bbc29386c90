-- The bank: a lock server on UDP port 7000 and a ledger on port 7001, for the tellers alice and bob.
--
--   lock    LOCK n     a teller's nth request: it waits in line
--           GRANT n    the answer, when its turn has come
--           UNLOCK n   it is done
--           CANCEL n   it does not want to wait any longer
--   ledger  HELLO, READ, WRITE balance, BYE deposits: each is answered
local socket = require "socket"

local PATIENCE_S = 45
local NAMES = { ["10.77.0.2"] = "alice", ["10.77.0.3"] = "bob" }

local function listen(port)
  local service = assert(socket.udp())
  assert(service:setsockname("*", port))
  return service
end
local lock, ledger = listen(7000), listen(7001)

-- The line: the first one in it holds the lock.
local line = {}

local function grantFirst()
  local first = line[1]
  if not first then return end
  lock:sendto("GRANT " .. first.number, first.ip, first.port)
  print("lock: " .. NAMES[first.ip] .. " has it, request " .. first.number)
end

local function leave(ip, number)
  for place, waiting in ipairs(line) do
    if waiting.ip == ip and waiting.number == number then
      table.remove(line, place)
      if place == 1 then grantFirst() end
      return
    end
  end
end

local function onLock(message, ip, port)
  local verb, number = message:match("^(%u+) (%d+)$")
  if verb == "LOCK" then
    table.insert(line, { ip = ip, port = port, number = number })
    if #line == 1 then grantFirst() end
  elseif verb == "UNLOCK" or verb == "CANCEL" then
    leave(ip, number)
  end
end

-- The ledger: one balance.
local balance, deposits = 0, 0
local greeted, gone = {}, {}

local function onLedger(message, ip, port)
  local function answer(text) ledger:sendto(text, ip, port) end
  local verb, number = message:match("^(%u+) ?(%d*)$")
  if verb == "HELLO" then
    greeted[ip] = true
    if greeted["10.77.0.2"] and greeted["10.77.0.3"] then answer("WELCOME") end
  elseif verb == "READ" then
    answer("BALANCE " .. balance)
  elseif verb == "WRITE" then
    answer("WRITTEN")
    print(("ledger: %s writes %d, it was %d"):format(NAMES[ip], number, balance))
    balance = tonumber(number)
  elseif verb == "BYE" then
    answer("BYE")
    if not gone[ip] then deposits = deposits + number end
    gone[ip] = true
  end
end

print "bank ready"
local closing = socket.gettime() + PATIENCE_S
while not (gone["10.77.0.2"] and gone["10.77.0.3"]) do
  if socket.gettime() > closing then
    print "FAIL bank: the tellers have not come, or not gone"
    os.exit(1)
  end
  local talking = socket.select({ lock, ledger }, nil, 1)
  if talking[lock] then onLock(lock:receivefrom()) end
  if talking[ledger] then onLedger(ledger:receivefrom()) end
end

if balance ~= deposits then
  print(("FAIL bank: %d coins were paid in, the balance is %d"):format(deposits, balance))
  os.exit(1)
end
print(("OK bank: %d coins were paid in, the balance is %d"):format(deposits, balance))
