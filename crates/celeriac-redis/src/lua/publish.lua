-- Pushes messages to several lists: all of them, or none.
--
-- KEYS: lists
-- ARGV: for each list the number of its messages, then these, in order
local keys = {}
for _, list in ipairs(KEYS) do
  keys[#keys + 1] = list
  keys[#keys + 1] = 'list'
end
local key = occupied(keys)
if key then return redis.error_reply(wrong_type(key)) end
local at = 1
for _, list in ipairs(KEYS) do
  local count = tonumber(ARGV[at])
  redis.call('LPUSH', list, unpack(ARGV, at + 1, at + count))
  at = at + count + 1
end
