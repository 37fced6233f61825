//! rusty-celery. It has no results: the task stores its own, on a connection that all tasks share.

use std::sync::OnceLock;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redis::aio::MultiplexedConnection;

use self::task::add;
use super::this_program;
use crate::system::{Result, Results, System};

/// How many are being sent at once: it sends one by one.
const SENDING: usize = 64;
/// How many it takes before they are acknowledged; never reached, since it takes them one after the other.
const PREFETCH: u16 = 1_000;
/// How long Celery keeps a result.
const DAY: u64 = 24 * 60 * 60;

static RESULTS: OnceLock<MultiplexedConnection> = OnceLock::new();

pub(crate) fn system() -> System {
    System {
        name: "rusty-celery",
        version: || Ok("0.5.5".to_owned()),
        tasks: 50_000,
        send: |url, count| this_program(&["send", "rusty-celery", url, &count.to_string()]),
        work: |url| this_program(&["work", "rusty-celery", url]),
        results: Results::Keys { prefix: "result-", says: "" },
        open: &[&["LLEN", "celery"], &["HLEN", "_celery.celery_process_map"]],
    }
}

#[expect(non_local_definitions, reason = "the macro's")]
mod task {
    use celery::prelude::*;
    use redis::AsyncCommands as _;

    use super::{DAY, RESULTS};

    #[celery::task(bind = true)]
    pub(super) async fn add(task: &Self, x: i64, y: i64) -> TaskResult<i64> {
        let sum = x + y;
        let connection = RESULTS.get().ok_or_else(|| TaskError::UnexpectedError("no connection".to_owned()))?;
        let key = format!("result-{}", task.request.id);
        let stored: redis::RedisResult<()> = connection.clone().set_ex(key, sum, DAY).await;
        stored.with_unexpected_err(|| "the result cannot be stored")?;
        Ok(sum)
    }
}

async fn app(url: &str) -> Result<std::sync::Arc<celery::Celery>> {
    let app = celery::app!(
        broker = celery::broker::RedisBroker { url },
        tasks = [add],
        task_routes = [],
        prefetch_count = PREFETCH,
        acks_late = true,
    );
    Ok(app.await?)
}

pub(crate) async fn send(url: &str, count: usize) -> Result {
    let app = app(url).await?;
    let sending = stream::iter(0..count).map(|number| Ok(app.send_task(add::new(number as i64, 1))));
    Ok(sending
        .try_buffer_unordered(SENDING)
        .try_for_each(|_| async { Ok::<_, celery::error::CeleryError>(()) })
        .await?)
}

pub(crate) async fn work(url: &str) -> Result {
    let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    RESULTS.set(connection).map_err(|_| "two workers in one process")?;
    Ok(app(url).await?.consume().await?)
}
