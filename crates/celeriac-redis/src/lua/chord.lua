-- Counts the parts of a chord's header, and knows who sends its body: who holds the claim.
--
-- KEYS: results, delta, size, counted, claim, saved group
-- ARGV: token, then one of
--   'report' member score value life group-life claim    the member is what the part is counted by; lives in seconds, '' for ever
--   'extend' claim
--   'finish' whether it is another try, done
-- Returns: 1 if the token holds the claim, or held it until it finished; else 0. All of them may be repeated.
--
-- COMPAT: celery 5.7 does the same by CHORD_PART_RETURN_LUA, CHORD_CLAIM_EXTEND_LUA and CHORD_CLEANUP_LUA of celery/backends/redis.py.
local results, delta, size, counted, claim, group = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local token, verb = ARGV[1], ARGV[2]
local holder = redis.call('GET', claim)

-- Takes the claim for so many seconds, or keeps it: of a report, if the answer to the first try was lost.
local function hold(seconds)
  if holder and holder ~= token then return 0 end
  redis.call('SET', claim, token, 'EX', seconds)
  return 1
end

if verb == 'report' then
  local member, score, value, life, group_life, seconds = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
  -- A late duplicate brings nothing back of what was deleted.
  if holder == 'done' then return 0 end
  if redis.call('SISMEMBER', counted, member) == 0 then
    redis.call('ZADD', results, score, value)
    redis.call('SADD', counted, member)
  end
  if life ~= '' then
    for _, key in ipairs({ results, delta, size, counted }) do redis.call('EXPIRE', key, life) end
    if group_life ~= '' then redis.call('EXPIRE', group, group_life) end
  end
  local wanted = redis.call('GET', size)
  wanted = wanted and tonumber(wanted)
  if not wanted or redis.call('ZCARD', results) ~= wanted + tonumber(redis.call('GET', delta) or 0) then return 0 end
  return hold(seconds)
elseif verb == 'extend' then
  -- A claim that expired is taken again, unless there is nothing left to be done.
  if not holder and redis.call('EXISTS', size) == 0 then return 0 end
  return hold(ARGV[3])
else
  if holder == 'done' and ARGV[3] == '1' then return 1 end
  if holder ~= token then return 0 end
  redis.call('DEL', results, delta, size, counted)
  redis.call('SET', claim, 'done', 'EX', ARGV[4])
  return 1
end
