-- Errors that name the key.

-- That `key` holds something else than is kept there.
local function wrong_type(key)
  return 'WRONGTYPE at ' .. key
end

-- What is wrong with `key`, of which the server says `what`.
local function wrong_with(key, what)
  return string.find(what, 'WRONGTYPE', 1, true) and wrong_type(key) or key .. ' ' .. what
end

-- What a script expects, which it says at its beginning: keys, each followed by the type of what is kept there: hash, list, number, set, zset.
local expected = {}

-- The first of such keys that holds something else.
local function occupied(keys)
  for i = 1, #keys, 2 do
    local kind = redis.call('TYPE', keys[i]).ok
    if kind == 'string' and tonumber(redis.call('GET', keys[i])) then kind = 'number' end
    if kind ~= 'none' and kind ~= keys[i + 1] then return keys[i] end
  end
end

-- What went wrong, as text: the key that is to blame, else the server's words.
local function blamed(what)
  what = type(what) == 'table' and what.err or tostring(what)
  local typed = string.find(what, 'WRONGTYPE', 1, true) or string.find(what, 'not an integer', 1, true)
  local key = typed and occupied(expected)
  return key and wrong_type(key) or what
end

-- Carries out a script, and fails as it fails, but with the key's name.
local function naming(script)
  local fine, outcome = pcall(script)
  if fine then return outcome end
  local what = blamed(outcome)
  return redis.error_reply(string.match(what, '^%u+ ') and what or 'ERR ' .. what)
end
