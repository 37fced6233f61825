//! apalis, with its results stored as it comes.

use apalis::prelude::*;
use apalis_redis::{Config, RedisStorage};
use serde::{Deserialize, Serialize};

use super::{sender, worker};
use crate::system::{Result, Results, System, Waits};

/// How many are sent at once.
const BATCH: usize = 1_000;

const VERSION: &str = "1.0.0";

const RESULTS: Results = Results::Hashes { done: "compare:done", prefix: "compare:meta:", says: "Ok" };

const WAITS: Waits = Waits::Redis(&[
    &["LLEN", "compare:active"],
    &["ZCARD", "compare:scheduled"],
    &["SCARD", "compare:inflight:worker"],
]);

/// Makes tasks ready. apalis-redis 1.0.0 schedules every task, for at once, and its worker moves all that are due in a single step, which
/// Redis refuses from 8,000 on ("too many results to unpack"). So the sender does that step, in pieces; the worker has that much less to do.
const MAKE_READY: &str = "
local due = redis.call('ZPOPMIN', KEYS[1], ARGV[1])
for i = 1, #due, 2 do
  redis.call('RPUSH', KEYS[2], due[i])
end
return #due";

/// With its own settings.
pub(crate) fn as_it_comes() -> System {
    System {
        name: "apalis",
        version: || Ok(VERSION.to_owned()),
        // It slows down as more tasks wait: it looks for each task that it starts in the list of those that wait.
        tasks: 20_000,
        send: |urls, count| sender("apalis", urls, count),
        work: |urls| worker("apalis", urls),
        results: RESULTS,
        waits: WAITS,
    }
}

/// With the settings that its documentation has for short tasks.
pub(crate) fn tuned() -> System {
    System { name: "apalis-tuned", tasks: 300_000, work: |urls| worker("apalis-tuned", urls), ..as_it_comes() }
}

#[derive(Debug, Serialize, Deserialize)]
struct Add {
    x: i64,
    y: i64,
}

async fn add(task: Add) -> Result<i64, BoxDynError> {
    Ok(task.x + task.y)
}

async fn storage(url: &str, config: Config) -> Result<RedisStorage<Add>> {
    Ok(RedisStorage::new(apalis_redis::connect(url).await?).with_config(config.queue("compare")))
}

pub(crate) async fn send(url: &str, count: usize) -> Result {
    // Nobody listens to events here.
    let mut storage = storage(url, Config::default().emit_events(false)).await?;
    for start in (0..count).step_by(BATCH) {
        let numbers = start..(start + BATCH).min(count);
        storage.push_bulk(numbers.map(|number| Add { x: number as i64, y: 1 }).collect()).await?;
        let config = storage.get_config();
        let (scheduled, ready) = (config.scheduled_jobs_set(), config.active_jobs_list());
        let moving = redis::Script::new(MAKE_READY);
        let _: usize = moving.key(scheduled).key(ready).arg(BATCH).invoke_async(storage.get_connection()).await?;
    }
    Ok(())
}

pub(crate) async fn work(url: &str) -> Result {
    run(storage(url, Config::default()).await?).await
}

/// "Larger batches can improve throughput"; locking "can be turned off for tasks that last shorter than a worker heartbeat". What a worker has
/// taken is in its own set with and without locks, and is given to others when its heartbeat is missing.
pub(crate) async fn work_tuned(url: &str) -> Result {
    let config = Config::default().batch_size(BATCH).lock_tasks(false).emit_events(false);
    run(storage(url, config).await?).await
}

async fn run(storage: RedisStorage<Add>) -> Result {
    Ok(WorkerBuilder::new("worker").backend(storage).build(add).run().await?)
}
