-- What is pushed, as a script's arguments say it:
--   'list' list envelope | 'park' queue list-of-step-0 parked due step unique may-go-at-once envelope
--   | 'fanout' channel beginning-of-seen-keys number-of-queues queue... envelope

-- The place of the next argument.
local cursor = 1
local function take()
  cursor = cursor + 1
  return ARGV[cursor - 1]
end

local function read_push(separator)
  local push = { kind = take() }
  if push.kind == 'list' then
    push.list = take()
  elseif push.kind == 'park' then
    push.queue, push.plain, push.parked, push.due = take(), take(), take(), take()
    push.step, push.unique, push.early = take(), take(), take()
    push.list = list_of(push.plain, push.step, separator)
  else
    push.channel, push.seen, push.queues = take(), take(), {}
    for i = 1, tonumber(take()) do push.queues[i] = take() end
  end
  push.envelope = take()
  return push
end

-- Whether nothing can be parked at `parked`: what is wrong.
local function unparkable(parked, parked_index, workers)
  local key = occupied({ parked, 'zset', parked_index, 'zset', workers, 'zset' })
  return key and wrong_type(key)
end

-- Whether it cannot be pushed: what is wrong.
local function hindered(push, parked_index, workers)
  if push.parked then
    local wrong = unparkable(push.parked, parked_index, workers)
    if wrong then return wrong end
  end
  return push.list and not is_list(push.list) and wrong_type(push.list)
end

local function publish(push, parked_index, workers, due_channel, at)
  if push.kind == 'list' then
    redis.call('LPUSH', push.list, push.envelope)
  elseif push.kind == 'park' then
    -- Where nobody is who would move it, it takes Celery's own form, if it has one: any worker may take it then, and ours park it.
    if tonumber(push.due) <= at or (push.early == '1' and redis.call('ZCOUNT', workers, at, '+inf') == 0) then
      redis.call('LPUSH', push.list, push.envelope)
    else
      local member = push.unique .. ':' .. push.step .. ':' .. push.envelope
      park(push.parked, parked_index, push.queue, due_channel, push.due, member)
    end
  else
    if #push.queues > 0 then
      local seen = push.seen .. redis.sha1hex(push.envelope)
      for _, queue in ipairs(push.queues) do redis.call('SADD', seen, queue) end
      redis.call('EXPIRE', seen, 60)
    end
    redis.pcall('PUBLISH', push.channel, push.envelope)
  end
end
