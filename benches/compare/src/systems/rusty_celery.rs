//! rusty-celery. It has no results: the task stores its own, on a connection that all tasks share.

use std::sync::{Arc, OnceLock};

use celery::Celery;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redis::aio::MultiplexedConnection;

use self::task::add;
use super::{ON_RABBIT, sender, worker};
use crate::system::{Result, Results, System, Urls, Waits};

/// How many are being sent at once: it sends one by one.
const SENDING: usize = 64;
/// How many it takes before they are acknowledged. On Redis never reached, since it takes them one after the other.
pub(crate) const PREFETCH: u16 = 1_000;
/// How many it takes by itself.
pub(crate) const ITS_OWN: u16 = 10;
/// How long Celery keeps a result.
const DAY: u64 = 24 * 60 * 60;

static RESULTS: OnceLock<MultiplexedConnection> = OnceLock::new();

pub(crate) fn on_redis() -> System {
    System {
        name: "rusty-celery",
        version: || Ok("0.5.5".to_owned()),
        tasks: 50_000,
        send: |urls, count| sender("rusty-celery", urls, count),
        work: |urls| worker("rusty-celery", urls),
        results: Results::Keys { prefix: "result-", says: "" },
        waits: Waits::Redis(&[&["LLEN", "celery"], &["HLEN", "_celery.celery_process_map"]]),
    }
}

pub(crate) fn on_rabbit() -> System {
    System {
        name: "rusty-celery-rabbit",
        send: |urls, count| sender("rusty-celery-rabbit", urls, count),
        work: |urls| worker("rusty-celery-rabbit", urls),
        waits: ON_RABBIT,
        ..on_redis()
    }
}

/// With the prefetch that it has by itself.
pub(crate) fn on_rabbit_as_it_comes() -> System {
    System { name: "rusty-celery-rabbit-10", work: |urls| worker("rusty-celery-rabbit-10", urls), ..on_rabbit() }
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

pub(crate) async fn redis(urls: &Urls) -> Result<Arc<Celery>> {
    let app = celery::app!(
        broker = celery::broker::RedisBroker { &urls.broker },
        tasks = [add],
        task_routes = [],
        prefetch_count = PREFETCH,
        acks_late = true,
    );
    Ok(app.await?)
}

pub(crate) async fn rabbit(urls: &Urls, prefetch: u16) -> Result<Arc<Celery>> {
    let app = celery::app!(
        broker = celery::broker::AMQPBroker { &urls.broker },
        tasks = [add],
        task_routes = [],
        prefetch_count = prefetch,
        acks_late = true,
    );
    Ok(app.await?)
}

pub(crate) async fn send(app: Arc<Celery>, count: usize) -> Result {
    let sending = stream::iter(0..count).map(|number| Ok(app.send_task(add::new(number as i64, 1))));
    sending.try_buffer_unordered(SENDING).try_for_each(|_| async { Ok::<_, celery::error::CeleryError>(()) }).await?;
    // It waits for no confirmation, but with this RabbitMQ has everything.
    Ok(app.close().await?)
}

pub(crate) async fn work(app: Arc<Celery>, urls: &Urls) -> Result {
    let connection = redis::Client::open(&*urls.results)?.get_multiplexed_async_connection().await?;
    RESULTS.set(connection).map_err(|_| "two workers in one process")?;
    Ok(app.consume().await?)
}
