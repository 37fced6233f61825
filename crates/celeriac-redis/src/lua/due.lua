-- Parked messages. A queue's are the members of the sorted set `<parked>`, scored by when they are due, in microseconds:
-- `<unique>:<step>:<envelope>`. The index, another sorted set, holds each queue that has any, scored by when its first is due.

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function list_of(queue, step, separator)
  if step == '0' then return queue end
  return queue .. separator .. step
end

-- Whether `key` can take what is pushed to it.
local function is_list(key)
  local kind = redis.call('TYPE', key).ok
  return kind == 'list' or kind == 'none'
end

-- Whether messages can be parked at `key`.
local function is_sorted(key)
  local kind = redis.call('TYPE', key).ok
  return kind == 'zset' or kind == 'none'
end

-- Brings the index in line with what is parked; when the first one is due, or false.
local function reindex(parked, index, name)
  local first = redis.call('ZRANGE', parked, 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', index, first[2], name)
    return tonumber(first[2])
  end
  redis.call('ZREM', index, name)
  return false
end

-- Moves what is due to its list, before all that waits there, the earliest foremost. Returns when the next is due, or false.
local function move_due(parked, index, name, queue, separator, at)
  local first = redis.call('ZRANGE', parked, 0, 0, 'WITHSCORES')
  if not first[2] or tonumber(first[2]) > at then return first[2] and tonumber(first[2]) end
  -- Of a moderate size in all, judged by the first.
  local most = math.max(1, math.min(1000, math.floor(4194304 / #first[1])))
  local due = redis.call('ZRANGE', parked, '-inf', at, 'BYSCORE', 'LIMIT', 0, most)
  for i = #due, 1, -1 do
    local step, envelope = string.match(due[i], '^[^:]*:([^:]*):(.*)$')
    local list = list_of(queue, step or '0', separator)
    -- Into a key of another type nothing can be pushed: it stays parked until the key is a list.
    if is_list(list) then
      -- In this order: also a server that is full lets it happen.
      redis.call('ZREM', parked, due[i])
      redis.call('RPUSH', list, envelope or due[i])
    end
  end
  return reindex(parked, index, name)
end

-- Parks an envelope. Whoever waits for the queue is told if it is due before all others.
local function park(parked, index, name, channel, due, member)
  redis.call('ZADD', parked, due, member)
  local first = redis.call('ZSCORE', index, name)
  if not first or tonumber(due) < tonumber(first) then
    redis.call('ZADD', index, due, name)
    redis.pcall('PUBLISH', channel, name)
  end
end
