//! Celeriac, as it comes.

use celeriac::prelude::*;

use super::this_program;
use crate::system::{Result, Results, System};

/// How many are sent at once.
const BATCH: usize = 1_000;

pub(crate) fn system() -> System {
    System {
        name: "celeriac",
        version: || Ok("of this tree".to_owned()),
        tasks: 300_000,
        send: |url, count| this_program(&["send", "celeriac", url, &count.to_string()]),
        work: |url| this_program(&["work", "celeriac", url]),
        results: Results::Keys { prefix: "celery-task-meta-", says: "SUCCESS" },
        open: &[&["LLEN", "celery"], &["HLEN", "unacked"]],
    }
}

#[celeriac::task]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

async fn app(url: &str) -> Result<App> {
    Ok(App::builder("compare").read_env(false).broker_url(url).tasks(tasks![add]).build().await?)
}

pub(crate) async fn send(url: &str, count: usize) -> Result {
    let app = app(url).await?;
    for start in (0..count).step_by(BATCH) {
        let numbers = start..(start + BATCH).min(count);
        app.send_batch(numbers.map(|number| add::s(number as i64, 1))).await?;
    }
    Ok(app.close().await?)
}

pub(crate) async fn work(url: &str) -> Result {
    Ok(app(url).await?.worker().concurrency(2).build()?.run_until_signal().await?)
}
