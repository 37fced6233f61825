-- Takes up to so many messages, and records who holds them, in one step.
--
-- KEYS: unacked, unacked_index, taken, parked index, marks
-- ARGV: slot, call, whether it is another try, tag prefix, limit, about the most bytes, but so many messages, or about so many bytes,
--       lease in seconds, separator, number of queues,
--       for each queue: name, list of step 0, parked,
--       for each list, in the order to read them: list, the end of its hash values
-- Returns: the number of the first taken, microseconds until the next is due or -1, what went wrong, 1 if it stopped at the most,
--          then for each list that gave any: {its place from 0, message, ...}; a message that is gone again is false
local unacked, index, taken, parked_index, marks = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local slot, call, again, prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local left, room, few, most = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local lease, separator, queues = tonumber(ARGV[9]), ARGV[10], tonumber(ARGV[11])
local first_list = 12 + 3 * queues
expected = { unacked, 'hash', index, 'zset', taken, 'number', parked_index, 'zset' }
local lists = (#ARGV - first_list + 1) / 2

local format = string.format
local at = now()
local score = string.format('%.6f', at / 1000000 + lease)

-- What a try took whose answer was lost is handed out again, under a new lease. A mark is: call:first number:place,size:place,size:...
local function take_again(mark)
  local first, parts = string.match(mark, '^[^:]*:(%d+):(.*)$')
  local number, reply = tonumber(first), { first, 0, {}, 1 }
  for place, size in string.gmatch(parts, '(%d+),(%d+):') do
    local came, tail = { tonumber(place) }, ARGV[first_list + tonumber(place) * 2 + 1]
    for i = 1, tonumber(size) do
      local tag = prefix .. string.format('%.0f', number)
      local value = redis.call('HGET', unacked, tag)
      came[i + 1] = value and string.sub(value, 2, -#tail - 1)
      if value then redis.call('ZADD', index, 'XX', score, tag) end
      number = number + 1
    end
    reply[#reply + 1] = came
  end
  return reply
end

if again == '1' then
  local mark = redis.call('HGET', marks, slot)
  if mark and string.sub(mark, 1, #call + 1) == call .. ':' then return take_again(mark) end
end

local reply = { '0', -1, {}, 0 }
if redis.call('EXISTS', parked_index) == 1 then
  local next_due = false
  for cursor = 12, first_list - 1, 3 do
    local parked, due = ARGV[cursor + 2], false
    if is_sorted(parked) then
      due = move_due(parked, parked_index, ARGV[cursor], ARGV[cursor + 1], separator, at)
    else
      reply[3][#reply[3] + 1] = wrong_type(parked)
    end
    if due and (not next_due or due < next_due) then next_due = due end
  end
  if next_due then reply[2] = string.format('%.0f', math.max(next_due - at, 0)) end
end

-- How many lists there are at all: most often none, or the first.
local names, there = {}, 0
for i = first_list, #ARGV, 2 do
  names[#names + 1] = ARGV[i]
  if #names == 1000 or i + 2 > #ARGV then
    there = there + redis.call('EXISTS', unpack(names))
    names = {}
  end
end

local first, number, mark = false, 0, ''
for i = 0, lists - 1 do
  if there == 0 or left == 0 or room <= 0 then break end
  local list, tail = ARGV[first_list + i * 2], ARGV[first_list + i * 2 + 1]
  -- The first one tells how large they are.
  local chunk, came = 1, false
  while left > 0 and room > 0 do
    chunk = math.min(chunk, left, 1000)
    local items = redis.pcall('LRANGE', list, -chunk, -1)
    if items.err then
      reply[3][#reply[3] + 1] = wrong_with(list, items.err)
      there = there - 1
      break
    end
    local size = #items
    if size == 0 then break end
    -- First a write that takes no memory. A server that takes no writes refuses it, and nothing has happened; one that is full lets the
    -- others follow it, so that what waits can be worked off.
    redis.call('PERSIST', taken)
    number = redis.call('INCRBY', taken, size) - size + 1
    if number == 1 then
      -- Numbered from the time of the first, so that no number comes twice even if the counter is lost.
      number = at
      redis.call('SET', taken, string.format('%.0f', number + size - 1))
    end
    if not first then
      first = string.format('%.0f', number)
      reply[1] = first
    end
    local scores, values, bytes = {}, {}, 0
    came = came or { i }
    -- Places are counted: to ask a table for its length takes longer.
    local before = #came + 1
    for place = size, 1, -1 do
      local tag, item, at = format('%s%.0f', prefix, number), items[place], size - place
      number = number + 1
      bytes = bytes + #item
      -- The last first: each finds its place in the index before all others of this call, and at once.
      scores[2 * place - 1] = score
      scores[2 * place] = tag
      values[2 * at + 1] = tag
      values[2 * at + 2] = '[' .. item .. tail
      came[before + at] = item
    end
    redis.call('ZADD', index, unpack(scores))
    local held = redis.pcall('HSET', unacked, unpack(values))
    if type(held) == 'table' then
      for tag = 2, #scores, 2 do redis.call('ZREM', index, scores[tag]) end
      error(held, 0)
    end
    redis.call('LTRIM', list, 0, -(size + 1))
    left = left - size
    -- The very first tells whether they are small.
    room = math.max(room, math.min(few * bytes, most)) - bytes
    few = 0
    if size < chunk then break end
    chunk = math.max(1, math.ceil(room * size / bytes))
  end
  if came then
    there = there - 1
    reply[#reply + 1] = came
    mark = mark .. string.format('%d,%d:', i, #came - 1)
  end
end
if left == 0 or room <= 0 then reply[4] = 1 end
if first and redis.pcall('HSET', marks, slot, call .. ':' .. first .. ':' .. mark) == 1 then
  redis.call('EXPIRE', marks, 600)
end
return reply
