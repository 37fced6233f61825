-- Drops what waits in a queue, due or not.
--
-- KEYS: parked, parked index, then the queue's lists
-- ARGV: queue
-- Returns: how many there were.
local count = redis.call('ZCARD', KEYS[1])
-- Whatever is of another type is found before anything is dropped.
for i = 3, #KEYS do count = count + redis.call('LLEN', KEYS[i]) end
redis.call('ZREM', KEYS[2], ARGV[1])
for i = 1, #KEYS do
  if i ~= 2 then redis.call('DEL', KEYS[i]) end
end
return count
