//! Producer, broker and worker put together by hand, without the facade and without macros.
//!
//! ```text
//! cargo run -p celeriac-examples --bin bare_pipeline
//! ```
//!
//! Three crates take part, and each could be replaced alone: `celeriac-producer` sends, `celeriac-memory` keeps messages and results, and
//! `celeriac-consumer` runs the tasks. What `#[celeriac::task]` would write is written out here.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::Arc;

use celeriac_consumer::{
    Arguments, Define, Task, TaskContext, TaskError, TaskOptions, TaskResult, Tasks, Worker, WorkerConfig,
};
use celeriac_memory::MemoryStore;
use celeriac_producer::{Producer, ResultError, signature};

/// The task `divide(dividend, divisor)`.
struct Divide;

/// What a sender has to know of it: a program that only sends needs this half alone.
impl Define for Divide {
    const NAME: &'static str = "divide";
    const PARAMETERS: &'static [&'static str] = &["dividend", "divisor"];
    type Output = i64;

    fn options() -> TaskOptions {
        TaskOptions::default()
    }
}

/// What a worker has to know of it.
impl Task for Divide {
    const BLOCKING: bool = false;

    async fn run<'a>(cx: &'a TaskContext, mut args: Arguments<'a>) -> TaskResult<i64> {
        let dividend: i64 = args.required("dividend")?;
        let divisor: i64 = args.required("divisor")?;
        args.finish()?; // An argument too many is an error, as it is in Python.
        println!("worker    runs {}", cx.id());
        dividend
            .checked_div(divisor)
            .ok_or_else(|| TaskError::new(format!("{dividend} cannot be divided by {divisor}")))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The broker and the result backend: here one and the same store, so a result and its acknowledgement are written as one.
    let store = Arc::new(MemoryStore::new());

    // The producer: encodes and publishes to the broker, and reads results from the backend.
    let producer = Producer::builder(store.clone()).backend(store.clone()).build()?;

    // The worker: two tasks at a time, from the default queue.
    let mut config = WorkerConfig::default();
    config.concurrency = NonZeroUsize::MIN.saturating_add(1);
    let worker = Worker::builder(producer.clone(), Tasks::new().with::<Divide>()).config(config).build()?;
    let stop = worker.handle();
    let running = tokio::spawn(worker.run());

    let good = producer.send(signature::<Divide, _>((84, 2))).await?;
    println!("producer  sent {}: 84 / 2", good.id());
    let bad = producer.send(signature::<Divide, _>((1, 0))).await?;
    println!("producer  sent {}: 1 / 0", bad.id());

    // The output's type is the task's own: an `i64`.
    println!("result    {} is {}", good.id(), good.get().await?);
    match bad.get().await {
        Err(ResultError::Failure(failure)) => println!("result    {} failed: {}", bad.id(), failure.message()),
        other => return Err(format!("a division by zero ended with {other:?}").into()),
    }

    // Warm: what runs is finished, and what is settled is with the broker.
    stop.shutdown();
    running.await??;
    println!("worker    stopped");
    Ok(())
}
