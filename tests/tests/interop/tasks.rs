//! The tasks of the app in Rust. Those named `peers` are known to Python too.

use std::sync::Arc;

use celeriac::prelude::*;
use celeriac::{AppBuilder, Requeue, TaskFailure, Timestamp, Value, tasks};
use celeriac_tests::Traces;
use celeriac_tests::peers::trace;
use serde_json::{Value as Json, json};
use tokio::sync::Semaphore;

/// Tasks wait here until they are let through, one by one.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Gate {
    /// Lets so many through.
    pub(crate) fn open(&self, count: usize) {
        self.0.add_permits(count);
    }

    async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

/// The app, but for what a test adds.
pub(crate) fn app(url: &str, traces: &Traces, gate: &Gate) -> AppBuilder {
    App::builder("interop")
        .read_env(false)
        .broker_url(url)
        .state(traces.clone())
        .state(gate.clone())
        .tasks(tasks![add, end, echo, fail, ignored, join, large, nothing, now, parent, request, states, trace, twice])
}

#[celeriac::task(name = "peers.add")]
pub(crate) async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[celeriac::task(name = "rust.echo")]
pub(crate) async fn echo(value: Value) -> Value {
    value
}

#[celeriac::task(name = "rust.join")]
pub(crate) async fn join(a: String, b: String, separator: Option<String>) -> String {
    format!("{a}{}{b}", separator.unwrap_or_default())
}

#[celeriac::task(name = "rust.nothing")]
pub(crate) async fn nothing() {}

#[celeriac::task(name = "rust.large")]
pub(crate) fn large(size: usize) -> String {
    "x".repeat(size)
}

#[celeriac::task(name = "rust.ignored", ignore_result)]
pub(crate) async fn ignored() -> u8 {
    1
}

/// When it ran, in microseconds.
#[celeriac::task(name = "rust.now")]
pub(crate) async fn now() -> i64 {
    Timestamp::now().as_micros()
}

/// Sends another task, and tells its id.
#[celeriac::task(name = "rust.parent")]
pub(crate) async fn parent(cx: &TaskContext) -> TaskResult<String> {
    Ok(cx.send(add::s(2, 3)).await?.id().to_string())
}

/// Sets two states, one before each passing of the gate.
#[celeriac::task(name = "rust.states")]
pub(crate) async fn states(cx: &TaskContext, gate: State<Gate>) -> TaskResult<()> {
    gate.pass().await;
    cx.progress(1, 4);
    gate.pass().await;
    cx.update_state("HALFWAY", &json!({"at": "the middle"}))?;
    gate.pass().await;
    Ok(())
}

/// Refuses its message until it comes again; then tells how many times it came.
#[celeriac::task(name = "rust.twice")]
pub(crate) async fn twice(cx: &TaskContext) -> TaskResult<Option<u32>> {
    if cx.redelivered() { Ok(cx.delivery_count()) } else { Err(TaskError::reject("not yet", Requeue::Yes)) }
}

/// What the worker knows about the message.
#[celeriac::task(name = "peers.request")]
pub(crate) async fn request(cx: &TaskContext) -> Json {
    let headers = cx.headers();
    let limits = [headers.timelimit.hard, headers.timelimit.soft];
    json!({
        "id": cx.id().as_str(), "task": cx.name().as_str(), "lang": headers.lang, "origin": headers.origin.as_deref(),
        "root_id": cx.root_id().as_str(), "parent_id": cx.parent_id().map(|id| id.as_str()), "retries": cx.retries(),
        "argsrepr": headers.argsrepr, "kwargsrepr": headers.kwargsrepr, "shadow": headers.shadow,
        "group": headers.group.as_ref().map(|group| group.as_str()), "extra": headers.extra,
        "queue": cx.queue().as_str(), "exchange": cx.exchange().as_str(), "routing_key": cx.routing_key().as_str(),
        "redelivered": cx.redelivered(), "delivery_count": cx.delivery_count(), "by": "Rust",
        "timelimit": limits.map(|limit| limit.map(|limit| limit.as_secs_f64())),
    })
}

/// An error that Python has never heard of.
#[derive(Debug)]
pub(crate) struct OutOfStock {
    left: u32,
}

impl std::fmt::Display for OutOfStock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "only {} left", self.left)
    }
}

impl std::error::Error for OutOfStock {}

/// Ends as it is told to.
#[celeriac::task(name = "rust.fail")]
pub(crate) async fn fail(how: String) -> TaskResult<u8> {
    match how.as_str() {
        "ValueError" => Err(TaskFailure::new("builtins", "ValueError", "no such value").into()),
        "CustomError" => {
            let mut failure = TaskFailure::new("peer_app", "CustomError", 7);
            failure.exc_message.push("detail".into());
            Err(failure.with_traceback("at the counter").into())
        }
        "OutOfStock" => Err(OutOfStock { left: 3 }.into()),
        "ParseIntError" => Ok("five".parse()?),
        "text" => Err(TaskError::new("just a text")),
        "reject" => Err(TaskError::reject("not mine", Requeue::No)),
        "ignore" => Err(TaskError::ignore()),
        "panic" => panic!("out of order"),
        _ => Ok(1),
    }
}

/// As `rust.fail`, behind the gate.
#[celeriac::task(name = "rust.end")]
pub(crate) async fn end(gate: State<Gate>, how: String) -> TaskResult<u8> {
    gate.pass().await;
    fail(how).await
}
