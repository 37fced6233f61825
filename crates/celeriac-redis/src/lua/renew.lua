-- Says that a worker lives, and renews what it holds.
--
-- KEYS: unacked_index, workers, marks
-- ARGV: owner, lease in seconds, then the tags held
-- Returns: those of the tags that are not held any more.
local index, workers, marks = KEYS[1], KEYS[2], KEYS[3]
local owner, lease, at = ARGV[1], tonumber(ARGV[2]), now()
expected = { index, 'zset', workers, 'zset' }
-- First a write that takes no memory: a server that is full lets the others follow it.
redis.call('EXPIRE', marks, 600)
local score, lost = string.format('%.6f', at / 1000000 + lease), {}
for i = 3, #ARGV do
  if redis.call('ZSCORE', index, ARGV[i]) then
    redis.call('ZADD', index, 'XX', score, ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
redis.call('ZADD', workers, string.format('%.0f', at + lease * 1000000), owner)
redis.call('ZREMRANGEBYSCORE', workers, '-inf', string.format('%.0f', at - 3600 * 1000000))
return lost
