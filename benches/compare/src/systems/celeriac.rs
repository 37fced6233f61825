//! Celeriac, as it comes.

use celeriac::prelude::*;

use super::{ON_RABBIT, sender, worker};
use crate::system::{Result, Results, System, Urls, Waits};

/// How many are sent at once.
const BATCH: usize = 1_000;

pub(crate) fn on_redis() -> System {
    System {
        name: "celeriac",
        version: || Ok("of this tree".to_owned()),
        tasks: 300_000,
        send: |urls, count| sender("celeriac", urls, count),
        work: |urls| worker("celeriac", urls),
        results: Results::Keys { prefix: "celery-task-meta-", says: "SUCCESS" },
        waits: Waits::Redis(&[&["LLEN", "celery"], &["HLEN", "unacked"]]),
    }
}

pub(crate) fn on_rabbit() -> System {
    System { name: "celeriac-rabbit", tasks: 100_000, waits: ON_RABBIT, ..on_redis() }
}

#[celeriac::task]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

async fn app(urls: &Urls) -> Result<App> {
    let builder = App::builder("compare").read_env(false).tasks(tasks![add]);
    Ok(builder.broker_url(&*urls.broker).result_backend(&*urls.results).build().await?)
}

pub(crate) async fn send(urls: &Urls, count: usize) -> Result {
    let app = app(urls).await?;
    for start in (0..count).step_by(BATCH) {
        let numbers = start..(start + BATCH).min(count);
        app.send_batch(numbers.map(|number| add::s(number as i64, 1))).await?;
    }
    Ok(app.close().await?)
}

pub(crate) async fn work(urls: &Urls) -> Result {
    Ok(app(urls).await?.worker().concurrency(2).build()?.run_until_signal().await?)
}
