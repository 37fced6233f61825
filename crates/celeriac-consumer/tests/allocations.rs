//! How many allocations a task costs on the worker's path, from the store to its result: counted, so that none comes back unseen.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a test may fail, and rounds")]

use std::sync::Arc;

use celeriac_consumer::{Arguments, Define, Task, TaskContext, TaskOptions, TaskResult, Tasks, Worker};
use celeriac_core::Signature;
use celeriac_memory::MemoryStore;
use celeriac_producer::Producer;

struct Add;

impl Define for Add {
    const NAME: &'static str = "add";
    const PARAMETERS: &'static [&'static str] = &["x", "y"];
    type Output = i64;

    fn options() -> TaskOptions {
        TaskOptions::default()
    }
}

impl Task for Add {
    const BLOCKING: bool = false;

    async fn run<'a>(_: &'a TaskContext, mut args: Arguments<'a>) -> TaskResult<i64> {
        let (x, y): (i64, i64) = (args.required("x")?, args.required("y")?);
        args.finish()?;
        Ok(x + y)
    }
}

/// The allocations of working so many tasks that wait in memory already, with their results stored there.
fn of_working(count: i64) -> u64 {
    // One thread: only what it does itself is counted.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let store = Arc::new(MemoryStore::new());
    let producer = Producer::builder(store.clone()).backend(store).build().unwrap();
    let calls = (0..count).map(|n| Signature::named("add").arg(n).arg(1));
    let last = runtime.block_on(producer.send_batch(calls)).unwrap().pop().unwrap();
    let worker = Worker::builder(producer, Tasks::new().with::<Add>()).build().unwrap();
    let stop = worker.handle();
    let counted = allocation_counter::measure(|| {
        runtime.block_on(async {
            let running = tokio::spawn(worker.run());
            assert_eq!(last.get().await.unwrap(), count.into());
            stop.shutdown();
            running.await.unwrap().unwrap();
        });
    });
    counted.count_total
}

#[test]
fn a_task_costs_little_more_than_five_allocations() {
    // What starting and stopping costs cancels out; the first run also fills what is kept.
    of_working(1_000);
    let (few, many) = (of_working(2_000), of_working(12_000));
    let each = (many - few) as f64 / 10_000.0;
    // Its context, the list of its arguments, its result, the way that takes, and its record in the store; and a share of what grows there.
    assert!(each < 5.5, "{each} allocations a task");
    assert!(each > 1.0, "{each} allocations a task: they were not counted");
}
