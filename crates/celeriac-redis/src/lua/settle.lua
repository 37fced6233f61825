-- Ends deliveries, stores results and publishes, in order, each entry wholly or not at all.
--
-- KEYS: unacked, unacked_index, marks, parked index, workers
-- ARGV: slot ('' if it may be done twice), call, whether it is another try, separator, channel of due times, number of compressed records, for each of them its
--       key, the whole of it and its state; then one or many entries at a time
--       'acks' count, tag...
--       'dones' count, shared, tag..., key..., value...        acknowledgements with results; no key comes twice
--       'puts' count, shared, key..., value...                 results alone; no key comes twice
--       'end' tag end, number of results, record..., number of pushes, push...     the general case; tag '' if nothing is held
--   shared: whether they are ends, milliseconds to live
--   end:    'ack' | 'back' list order envelope score ('' if it is held by the caller; else it has to have that in the index) | 'aside' list most note
--           | 'park' queue list-of-step-0 parked due step unique order stamp size-of-tail
--   record: key, whether it is an end, milliseconds to live ('' for ever), value
--   push:   see push.lua
-- Returns: the number of entries done, the places from 0 of those passed over (not held), what went wrong with the next: '' nothing; NUL
--          and a key, that the state of a compressed record there has to be told; with `!` before it, what is wrong for all of them.
local unacked, index, marks, parked_index, workers = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local slot, call, separator, due_channel = ARGV[1], ARGV[2], ARGV[4], ARGV[5]
expected = { unacked, 'hash', parked_index, 'zset', workers, 'zset' }

-- A try whose answer was lost is not repeated: its answer was kept, as call:done:lost,lost,...:wrong
if ARGV[3] == '1' then
  local mark = redis.call('HGET', marks, slot)
  if mark and string.sub(mark, 1, #call + 1) == call .. ':' then
    local done, places, wrong = string.match(mark, '^[^:]*:(%d+):([^:]*):(.*)$')
    local lost = {}
    for place in string.gmatch(places, '%d+') do lost[#lost + 1] = tonumber(place) end
    return { tonumber(done), lost, wrong }
  end
end

cursor = 6

-- What is known of records that only the caller can decompress.
local known = {}
for _ = 1, tonumber(take()) do
  local key = take()
  known[key] = { take(), take() }
end

-- The state of a record that neither Celery nor we have written: in JSON, msgpack or YAML, by all of it.
local function state_of(key, head)
  if string.byte(head) == 0 then return known[key] and known[key][2] end
  local value = redis.call('GET', key)
  local json = string.find(value, '^%s*{')
  if json or string.byte(value) >= 128 then
    local read, object = pcall(function() return json and cjson.decode(value) or cmsgpack.unpack(value) end)
    return read and type(object) == 'table' and object.status
  end
  return string.match('\n' .. value .. '\n', '\nstatus: ["\']?(%u+)["\']?%s*\n')
end

-- The state of a record in msgpack, where it comes first, as Celery and we write it: a map's header, then two short texts.
local function packed_state(head)
  local size, rest = string.match(head, '^[\128-\143]\166status([\160-\191])(.*)')
  if not size then size, rest = string.match(head, '^\222..\166status([\160-\191])(.*)') end
  return size and string.sub(rest, 1, string.byte(size) - 160)
end

-- Whether a record whose first bytes are `head` may be replaced: they tell its state, as Celery and we write it.
local function may_store(key, head, ends)
  if head == '' then return true end
  local state = string.match(head, '^{"status": ?"([^"]*)"') or packed_state(head)
    or string.match(head, '^%-%-%- {%? "status" : "([^"]*)"') or state_of(key, head)
  if state == 'SUCCESS' then return false end
  if state == 'FAILURE' or state == 'REVOKED' then return ends == '1' end
  return true
end

-- The first bytes of the record at `key`; or nothing, and what is wrong.
local function head_of(key)
  local head = redis.pcall('GETRANGE', key, 0, 47)
  if type(head) == 'table' then return nil, wrong_with(key, head.err) end
  if string.byte(head) == 0 and not (known[key] and known[key][1] == redis.call('GET', key)) then return nil, '\0' .. key end
  return head
end

-- What stores values that live for `life` milliseconds, '' for ever, and publishes them.
local function writer(life)
  local call, pcall, command, time = redis.call, redis.pcall, 'PSETEX', life
  if string.sub(life, -3) == '000' then command, time = 'SETEX', string.sub(life, 1, -4) end
  return function(key, value)
    if life == '' then call('SET', key, value) else call(command, key, time, value) end
    -- By now there is no way back: who may store but not publish has its watchers read later.
    pcall('PUBLISH', key, value)
  end
end

local function store(key, head, ends, life, value)
  if may_store(key, head, ends) then writer(life)(key, value) end
end

-- What ends begins by deleting something, be it nothing: that takes no memory. A server that takes no writes refuses it, and nothing has
-- happened; one that is full lets the others follow, or nothing would ever end there.

-- Taken out of the index at the end, all at once.
local ended = {}
-- What goes back at the end, by list: order and envelope.
local backs = {}
local function back_to(list, order, envelope)
  backs[list] = backs[list] or {}
  table.insert(backs[list], { tonumber(order), envelope })
end

-- The general case. Returns nothing, 'lost', or what is wrong: that is looked for before anything is done.
local function settle()
  local at = now()
  local tag, verb, operand = take(), take(), {}
  for i = 1, ({ ack = 0, back = 4, park = 9, aside = 3 })[verb] do operand[i] = take() end
  local records, pushes, wrong = {}, {}, false
  for i = 1, tonumber(take()) do
    local record = { take(), take(), take(), take() }
    record.head, wrong = head_of(record[1])
    records[i] = record
  end
  for i = 1, tonumber(take()) do
    pushes[i] = read_push(separator)
    wrong = hindered(pushes[i], parked_index, workers) or wrong
  end
  local back = verb == 'back' and operand[1] or verb == 'park' and list_of(operand[2], operand[5], separator)
  if back and not is_list(back) then wrong = wrong_type(back) end
  if verb == 'park' then wrong = unparkable(operand[3], parked_index, workers) or wrong end

  local value = tag ~= '' and redis.call('HGET', unacked, tag)
  if tag ~= '' and not value then return 'lost' end
  -- Its holder was found alive after all.
  if verb == 'back' and operand[4] ~= '' and tonumber(redis.call('ZSCORE', index, tag) or 0) ~= tonumber(operand[4]) then return 'lost' end
  if wrong then return wrong end
  if tag ~= '' then redis.call('HDEL', unacked, '') end
  for _, push in ipairs(pushes) do publish(push, parked_index, workers, due_channel, at) end
  for _, record in ipairs(records) do store(record[1], record.head, record[2], record[3], record[4]) end
  if verb == 'back' then
    back_to(back, operand[2], operand[3])
  elseif verb == 'park' then
    local queue, _, parked, due, step, unique, order, stamp, tail = unpack(operand)
    local envelope = string.sub(value, 2, -tonumber(tail) - 1)
    if tonumber(due) <= at then
      if stamp ~= '' and string.sub(envelope, -1) == '}' then envelope = string.sub(envelope, 1, -2) .. stamp end
      back_to(back, order, envelope)
    else
      park(parked, parked_index, queue, due_channel, due, unique .. ':' .. step .. ':' .. envelope)
    end
  elseif verb == 'aside' and is_list(operand[1]) then
    -- Where it is not, what is no message is dropped: to take it again and again helps nobody.
    redis.call('LPUSH', operand[1], operand[3])
    redis.call('LTRIM', operand[1], 0, tonumber(operand[2]) - 1)
  end
  if tag ~= '' then
    redis.call('HDEL', unacked, tag)
    ended[#ended + 1] = tag
  end
end

-- Ends a delivery, if `tag` is not false. Whether it was not held any more.
local cleared = false
local function is_lost(tag, ends)
  if tag then
    if redis.call('HDEL', unacked, tag) == 0 then return true end
    ended[#ended + 1] = tag
  elseif ends == '1' and not cleared then
    redis.call('HDEL', unacked, '')
    cleared = true
  end
end

-- Stores one result, with its acknowledgement if `tag` is not false. Returns nothing, 'lost', or what is wrong, before anything was done.
local function finish(tag, key, ends, life, value)
  local head, wrong = head_of(key)
  if wrong then return tag and redis.call('HEXISTS', unacked, tag) == 0 and 'lost' or wrong end
  if is_lost(tag, ends) then return 'lost' end
  store(key, head, ends, life, value)
end

local done, lost = 0, {}
-- Counts an entry. Returns what is wrong with it.
local function count(outcome)
  if outcome == 'lost' then
    lost[#lost + 1] = done
  elseif outcome then
    return outcome
  end
  done = done + 1
end

-- Acknowledges those whose tags stand from one place to another.
local function acknowledge(from, to)
  local missing = to - from + 1 - redis.call('HDEL', unacked, unpack(ARGV, from, to))
  -- Which ones were not held is told by the index, which has what is held; only in the caller's log does it matter, save that one alone is told exactly.
  for place = from, to do
    local gone = missing == to - from + 1 or missing > 0 and not redis.pcall('ZSCORE', index, ARGV[place])
    count(gone and 'lost')
  end
  redis.pcall('ZREM', index, unpack(ARGV, from, to))
end

-- Carries out many entries that are alike. Returns what is wrong with the next.
local function alike(kind)
  local size, ends, life = tonumber(take()), nil, nil
  if kind ~= 'acks' then ends, life = take(), take() end
  local tags, keys = cursor, cursor
  if kind ~= 'puts' then keys = tags + size end
  local values = keys + size
  cursor = kind == 'acks' and keys or values + size
  if kind == 'acks' then return acknowledge(tags, keys - 1) end

  -- Most often there is no earlier record.
  local none, write = redis.call('EXISTS', unpack(ARGV, keys, values - 1)) == 0, writer(life)
  for i = 0, size - 1 do
    local tag, key, value, outcome = kind == 'dones' and ARGV[tags + i], ARGV[keys + i], ARGV[values + i], nil
    if not none then
      outcome = finish(tag, key, ends, life, value)
    elseif is_lost(tag, ends) then
      outcome = 'lost'
    else
      write(key, value)
    end
    local wrong = count(outcome)
    if wrong then return wrong end
  end
end

-- Carries out what comes next. Returns what is wrong with it, before anything was done.
local function entries()
  local kind = take()
  if kind == 'end' then return count(settle()) end
  return alike(kind)
end

-- Puts messages back into their list, the earliest foremost, before all others but those that came back and were taken before them.
local function put_back(list, messages)
  local latest, room = 0, 1048576
  for _, message in ipairs(messages) do latest = math.max(latest, message[1]) end
  -- What came back before makes way, as much as does not hold up the server, and takes its place among them.
  while room > 0 do
    local other = redis.call('LINDEX', list, -1)
    if not other or #other > 65536 then break end
    local order = tonumber(string.match(string.sub(other, -48), '"celeriac": %[(%d+), %d+%]}$'))
    if not order or order >= latest then break end
    messages[#messages + 1] = { order, redis.call('RPOP', list) }
    room = room - #other
  end
  table.sort(messages, function(one, other) return one[1] > other[1] end)
  for _, message in ipairs(messages) do redis.call('RPUSH', list, message[2]) end
end

local wrong = ''
while cursor <= #ARGV and wrong == '' do
  local fine, outcome = pcall(entries)
  -- If it failed, the server takes no writes: that is found out by the first one, before anything is done.
  wrong = fine and (outcome or '') or '!' .. blamed(outcome)
end
for list, messages in pairs(backs) do put_back(list, messages) end
-- What is done is done: an index or marks of another type do not undo it.
for i = 1, #ended, 1000 do redis.pcall('ZREM', index, unpack(ended, i, math.min(i + 999, #ended))) end
if done > 0 and slot ~= '' then
  local mark = call .. ':' .. done .. ':' .. table.concat(lost, ',') .. ':' .. wrong
  if redis.pcall('HSET', marks, slot, mark) == 1 then redis.call('EXPIRE', marks, 600) end
end
return { done, lost, wrong }
