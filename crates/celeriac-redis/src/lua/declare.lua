-- Records a queue, its exchanges and its bindings; or tells what is otherwise, and records nothing.
--
-- KEYS: queues, exchanges, fanouts of this queue
-- ARGV: queue, its options, then for each binding: exchange, kind, binding key, permanent binding key, member, queues of the fanout
-- Returns: '' or the option, then what there is.
local queues, exchanges, fanouts = KEYS[1], KEYS[2], KEYS[3]
local queue, options = ARGV[1], ARGV[2]
local keys = { queues, 'hash', exchanges, 'hash', fanouts, 'set' }
for i = 3, #ARGV, 6 do
  for _, key in ipairs({ ARGV[i + 2], ARGV[i + 3], ARGV[i + 5] }) do
    keys[#keys + 1] = key
    keys[#keys + 1] = 'set'
  end
end
local key = occupied(keys)
if key then return redis.error_reply(wrong_type(key)) end
local known = redis.call('HGET', queues, queue)
if known and known ~= options then return { 'queue', known } end
for i = 3, #ARGV, 6 do
  local kind = redis.call('HGET', exchanges, ARGV[i])
  if kind and kind ~= ARGV[i + 1] then return { ARGV[i], kind } end
end
redis.call('HSET', queues, queue, options)
for i = 3, #ARGV, 6 do
  redis.call('HSET', exchanges, ARGV[i], ARGV[i + 1])
  redis.call('SADD', ARGV[i + 2], ARGV[i + 4])
  redis.call('SADD', ARGV[i + 3], ARGV[i + 4])
  if ARGV[i + 1] == 'fanout' then
    redis.call('SADD', fanouts, ARGV[i])
    redis.call('SADD', ARGV[i + 5], queue)
  end
end
return { '' }
