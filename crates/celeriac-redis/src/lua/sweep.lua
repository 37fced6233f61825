-- Moves what is due in queues that none of ours waits for, and finds what is in nobody's hands any more.
--
-- KEYS: unacked, unacked_index, sweep mutex, parked index
-- ARGV: prefix of our tags, visibility timeout of others in seconds, the most to find (0: it is too early for that), milliseconds until
--       the next search, separator, beginning of the keys of parked messages, beginning of the lists, how many to pass over, seconds
--       that the finder has
-- Returns: the time in microseconds; nothing more if it is too early, or another one has just searched; else whether there are more to
--          look at, the score that what was found has now, then tag, score before, ...
local unacked, index, mutex, parked_index = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ours, visibility, most, pause = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local separator, parked_prefix, list_prefix, offset, patience = ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local at, odd = now(), false
expected = { unacked, 'hash', index, 'zset', parked_index, 'zset' }

-- First a write that takes no memory: a server that is full lets the others follow it.
redis.call('ZREM', index, '')
for _, name in ipairs(redis.call('ZRANGE', parked_index, '-inf', at, 'BYSCORE', 'LIMIT', 0, 10)) do
  local parked = parked_prefix .. name
  if is_sorted(parked) then
    move_due(parked, parked_index, name, list_prefix .. name, separator, at)
  else
    odd = wrong_type(parked)
  end
end
if most == 0 or not redis.call('SET', mutex, '1', 'NX', 'PX', pause) then return { at } end

local ends = at / 1000000
local count, again = 0, string.format('%.6f', ends + patience)
local found = { at, 0, again }
local function see(tag, score)
  if redis.call('HEXISTS', unacked, tag) == 1 then
    count = count + 1
    found[#found + 1] = tag
    found[#found + 1] = score
    -- The finder's for a while, so that one that cannot be restored is in nobody's way.
    redis.call('ZADD', index, again, tag)
  else
    -- Recorded by a write whose other half never came, or settled by a peer in the middle of its own steps.
    redis.call('ZREM', index, tag)
  end
end

local old = string.format('%.6f', ends - visibility)
local all = redis.call('ZRANGE', index, '-inf', old, 'BYSCORE', 'LIMIT', 0, most, 'WITHSCORES')
for i = 1, #all, 2 do see(all[i], all[i + 1]) end
-- The newest first; what Python holds may be between them, any number of it.
all = redis.call('ZRANGE', index, string.format('%.6f', ends), '(' .. old, 'BYSCORE', 'REV', 'LIMIT', offset, 5000, 'WITHSCORES')
for i = 1, #all, 2 do
  if count < most and string.sub(all[i], 1, #ours) == ours then see(all[i], all[i + 1]) end
end
if #all == 10000 then found[2] = 1 end
if odd and count == 0 then error(odd, 0) end
return found
