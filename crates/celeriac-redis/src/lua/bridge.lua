-- Puts a message of a fanout exchange, heard by all who listen, into a queue once.
--
-- KEYS: list of the queue
-- ARGV: beginning of the keys of what was seen, queue, envelope
local seen = ARGV[1] .. redis.sha1hex(ARGV[3])
if redis.call('SADD', seen, ARGV[2]) == 0 then return 0 end
redis.call('EXPIRE', seen, 60)
redis.call('LPUSH', KEYS[1], ARGV[3])
return 1
