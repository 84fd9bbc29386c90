-- A teller: pays coins in, one at a time. The balance is read, and written with one coin more; the lock
-- is there so that nobody else does the same meanwhile.
local socket = require "socket"

local NAME = arg[1]
local BANK = "10.77.0.1"
local DEPOSITS = 20
local PATIENCE_S = 0.500       -- how long to wait for the lock
local ATTEMPTS = 100
local ANSWER_S = 20            -- the ledger always answers

local function connect(port)
  local peer = assert(socket.udp())
  assert(peer:setpeername(BANK, port))
  return peer
end
local lock, ledger = connect(7000), connect(7001)
lock:settimeout(PATIENCE_S)
ledger:settimeout(ANSWER_S)

local function log(...) print(NAME .. ": " .. string.format(...)) end

local function fail(why)
  print("FAIL " .. NAME .. ": " .. why)
  os.exit(1)
end

local function someTime(least, most) socket.sleep(least + math.random() * (most - least)) end

local function ask(request)
  ledger:send(request)
  return ledger:receive() or fail("no answer to " .. request)
end

local request = 0

local function acquire()
  for _ = 1, ATTEMPTS do
    request = request + 1
    lock:send("LOCK " .. request)
    local answer = lock:receive()
    if answer then return end
    log("request %d takes too long, I try again", request)
    lock:send("CANCEL " .. request)
    someTime(0.005, 0.020)
  end
  fail("I never got the lock")
end

local function countTheTill()
  someTime(0.010, 0.050)
  if math.random(8) == 1 then someTime(0.400, 0.600) end  -- a coin has rolled under the counter
end

local function deposit()
  acquire()
  local balance = tonumber(ask("READ"):match("%d+"))
  countTheTill()
  ask("WRITE " .. balance + 1)
  lock:send("UNLOCK " .. request)
  log("%d, request %d", balance + 1, request)
end

local function enter()
  local door = connect(7001)
  door:settimeout(0.2)
  for _ = 1, 200 do
    door:send("HELLO")
    if door:receive() then return door:close() end
  end
  fail("the bank is closed")
end

enter()
print(NAME .. " ready")
socket.sleep(1)
math.randomseed(math.floor(socket.gettime() * 1e6))  -- another day in every run from a snapshot
for _ = 1, DEPOSITS do
  deposit()
  someTime(0.005, 0.040)
end
ask("BYE " .. DEPOSITS)
print("OK " .. NAME)
