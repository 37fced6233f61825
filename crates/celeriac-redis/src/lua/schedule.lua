-- The entries of a schedule, and who leads: one verb for each method of a store.
--
-- KEYS: schedule, definitions, states, names, changes, removed, marks, parked index, workers
-- ARGV: version of the keys, channel of changes, slot ('' if it may be done twice), call, whether it is another try, then one of
--   'put' name definition condition      the condition is 'always', 'absent' or a revision
--   'remove' name most                   so many removed ones are remembered
--   'get' name
--   'list' name ('' for the beginning) limit bytes
--   'changes' revision limit bytes
--   'look'
--   'lead' who lease                     in microseconds
--   'resign' term
--   'advance' term separator channel-of-due-times, then for each step name revision steps state number-of-pushes push...; the number is
--             '-' where the messages cannot be published, as the caller knows already. Pushes: see push.lua
-- Returns: texts; see the end of each verb. An entry is name, `<revision>:<definition>`, `<steps>:<state>`; the last is '' before the first step, and
--          both are where the entry was removed.
local schedule, definitions, states, names, changes, removed = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local marks, parked_index, workers = KEYS[7], KEYS[8], KEYS[9]
local version, channel, slot, call = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
expected = {
  schedule, 'hash', definitions, 'hash', states, 'hash', names, 'zset', changes, 'zset', removed, 'zset', marks, 'hash',
}
cursor = 6

-- Before anything is done: what is found out in the middle could not be undone.
local key = occupied(expected)
if key then error(wrong_type(key), 0) end
local known = redis.call('HGET', schedule, 'version')
if known ~= version and redis.call('EXISTS', schedule) == 1 then
  error('WRONGVERSION ' .. (string.match(known or '', '^%d+') or '?') .. ' ' .. schedule, 0)
end

-- A try whose answer was lost is not repeated: its answer was kept.
if ARGV[5] == '1' and slot ~= '' then
  local mark = redis.call('HGET', marks, slot)
  if mark and string.sub(mark, 1, #call + 1) == call .. ':' then return cmsgpack.unpack(string.sub(mark, #call + 2)) end
end

local at = now()

local function text(number) return string.format('%.0f', number) end

-- The number that `what` begins with.
local function numbered(what) return string.match(what, '^%d+') end

-- The number that comes after `last`. Not below the time, so that none comes twice: also if the keys were lost, or a replica takes over that had
-- not heard of the last ones.
local function following(last) return text(math.max(tonumber(last or 0) + 1, at)) end

-- Before anything else is written to the schedule. The first is kept free, so that those who have read an empty store are not at the start.
local function begin()
  if not known then redis.call('HSET', schedule, 'version', version, 'born', text(at), 'revision', '1') end
end

local function latest() return redis.call('HGET', schedule, 'revision') or '1' end

-- Whoever waits looks again.
local function tell() redis.pcall('PUBLISH', channel, '') end

-- An entry has changed, in this revision.
local function changed(name, revision)
  redis.call('HSET', schedule, 'revision', revision)
  redis.call('ZADD', changes, revision, name)
  tell()
end

-- Adds an entry to a reply; how many bytes it has.
local function add(reply, name)
  local definition, state = redis.call('HGET', definitions, name) or '', redis.call('HGET', states, name) or ''
  reply[#reply + 1] = name
  reply[#reply + 1] = definition
  reply[#reply + 1] = state
  return #name + #definition + #state
end

local function leads(term)
  local newest = redis.call('HMGET', schedule, 'term', 'who')
  return newest[1] == term and newest[2]
end

-- Forgets the older half of what was removed.
local function forget()
  local last = math.floor(redis.call('ZCARD', removed) / 2) - 1
  local old = redis.call('ZRANGE', removed, 0, last)
  local forgotten = redis.call('ZSCORE', removed, old[#old])
  for i = 1, #old, 1000 do redis.call('ZREM', changes, unpack(old, i, math.min(i + 999, #old))) end
  redis.call('ZREMRANGEBYSCORE', removed, '-inf', forgotten)
  redis.call('HSET', schedule, 'forgotten', forgotten)
end

-- Takes a step: 'done', 'stale', 'refused', or what is wrong. Its arguments are read in any case.
local function step(separator, due_channel)
  local name, revision, steps, state, count = take(), take(), take(), take(), take()
  local pushes = {}
  for i = 1, tonumber(count) or 0 do pushes[i] = read_push(separator) end
  local before = redis.call('HGET', states, name)
  -- Also the removal of an entry has a revision, which no step has.
  if tonumber(redis.call('ZSCORE', changes, name) or 0) ~= tonumber(revision) or (before and numbered(before) or '0') ~= steps then
    return 'stale'
  end
  if count == '-' then return 'refused' end
  for _, push in ipairs(pushes) do
    local fine, wrong = pcall(hindered, push, parked_index, workers)
    if not fine then wrong = blamed(wrong) end
    if wrong then return wrong end
  end
  -- In this order: where the server takes no writes, or is full, the first one fails, and nothing has happened.
  redis.call('HSET', states, name, text(tonumber(steps) + 1) .. ':' .. state)
  for _, push in ipairs(pushes) do
    local fine, wrong = pcall(publish, push, parked_index, workers, due_channel, at)
    if not fine then
      -- This user may not push there. Without its message the step is not taken.
      if before then redis.call('HSET', states, name, before) else redis.call('HDEL', states, name) end
      return blamed(wrong)
    end
  end
  return 'done'
end

local verbs = {}

-- 'done' revision | 'unmet' revision ('' if there is no such entry)
function verbs.put()
  local name, definition, condition = take(), take(), take()
  local record = redis.call('HGET', definitions, name)
  local revision = record and numbered(record) or ''
  local wanted = condition == 'absent' and '' or condition
  if condition ~= 'always' and wanted ~= revision then return { 'unmet', revision } end
  if record and string.sub(record, #revision + 2) == definition then return { 'done', revision } end
  local fresh = following(latest())
  redis.call('HSET', definitions, name, fresh .. ':' .. definition)
  begin()
  redis.call('ZADD', names, 0, name)
  redis.call('ZREM', removed, name)
  changed(name, fresh)
  return { 'done', fresh }
end

-- '1' | '0' if it was not there
function verbs.remove()
  local name, most = take(), tonumber(take())
  if redis.call('HDEL', definitions, name) == 0 then return { '0' } end
  redis.call('HDEL', states, name)
  redis.call('ZREM', names, name)
  local fresh = following(latest())
  redis.call('ZADD', removed, fresh, name)
  changed(name, fresh)
  if redis.call('ZCARD', removed) > most then forget() end
  return { '1' }
end

-- entry
function verbs.get()
  local reply = {}
  add(reply, take())
  return reply
end

-- whether there may be more, entry...
function verbs.list()
  local after, limit, room = take(), take(), tonumber(take())
  local reply = { '0' }
  local found = redis.call('ZRANGE', names, after == '' and '-' or '(' .. after, '+', 'BYLEX', 'LIMIT', 0, limit)
  for i, name in ipairs(found) do
    room = room - add(reply, name)
    if room <= 0 or i == tonumber(limit) then
      reply[1] = '1'
      break
    end
  end
  return reply
end

-- 'unknown' revision | 'known' revision, whether there is more, entry...
function verbs.changes()
  local since, limit, room = take(), tonumber(take()), tonumber(take())
  local last, number = latest(), tonumber(since)
  local marked = redis.call('HMGET', schedule, 'forgotten', 'born')
  local forgotten, born = tonumber(marked[1] or 0), tonumber(marked[2] or 0)
  -- From another life of the store, too: it was emptied, or is a replica that had not heard of everything.
  if number == 0 or number < forgotten or number > tonumber(last) or (number > 1 and number < born) then return { 'unknown', last } end
  local found = redis.call('ZRANGE', changes, '(' .. since, '+inf', 'BYSCORE', 'LIMIT', 0, limit + 1, 'WITHSCORES')
  local reply = { 'known', since, '0' }
  for i = 1, #found, 2 do
    if room <= 0 or i > 2 * limit then
      reply[3] = '1'
      break
    end
    reply[2] = found[i + 1]
    room = room - add(reply, found[i])
  end
  return reply
end

-- revision, the term that was resigned last
function verbs.look()
  return { latest(), redis.call('HGET', schedule, 'resigned') or '0' }
end

-- the term that was resigned last, then 'leading' term | 'led' who microseconds
function verbs.lead()
  local who, lease = take(), tonumber(take())
  local present = redis.call('HMGET', schedule, 'who', 'lease', 'ends', 'term', 'resigned')
  local leader, ends, term, resigned = present[1], tonumber(present[3] or 0), present[4], present[5] or '0'
  -- First a write that takes no memory: a server that is full lets the others follow it.
  redis.call('HDEL', schedule, '')
  if leader and leader ~= who then
    -- The clock may have been set back since the lease was given.
    local most = at + tonumber(present[2])
    if ends > most then
      ends = most
      redis.call('HSET', schedule, 'ends', text(ends))
    end
    if ends > at then return { resigned, 'led', leader, text(ends - at) } end
  end
  begin()
  if leader ~= who then term = following(term) end
  redis.call('HSET', schedule, 'who', who, 'lease', text(lease), 'ends', text(at + lease), 'term', term)
  return { resigned, 'leading', term }
end

function verbs.resign()
  local term = take()
  if leads(term) then
    redis.call('HDEL', schedule, 'who', 'lease', 'ends')
    redis.call('HSET', schedule, 'resigned', term)
    tell()
  end
  return {}
end

-- 'fenced' | 'stepped', then what became of each step
function verbs.advance()
  local term, separator, due_channel = take(), take(), take()
  if not leads(term) then return { 'fenced' } end
  local reply = { 'stepped' }
  while cursor <= #ARGV do reply[#reply + 1] = step(separator, due_channel) end
  return reply
end

local answer = verbs[take()]()
if slot ~= '' then
  local mark = call .. ':' .. cmsgpack.pack(answer)
  if type(redis.pcall('HSET', marks, slot, mark)) == 'number' then redis.call('EXPIRE', marks, 600) end
end
return answer
