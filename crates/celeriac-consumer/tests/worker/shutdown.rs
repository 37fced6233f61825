//! Stopping: warm, cold, and in time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use celeriac_consumer::{Prefetch, Tasks};
use celeriac_core::TaskState;
use celeriac_memory::MemoryStore;
use celeriac_producer::{ProducerConfig, signature};

use crate::support::{Bench, output, probe, slots};
use crate::wrappers::{Flaky, Log, Plain};

task!(async Waits(cx) -> i64 {
    probe(cx).tell("waits");
    probe(cx).pass().await;
    Ok(1)
});
task!(sync Looks(cx) -> i64 {
    probe(cx).tell("looks");
    while !cx.is_cancelled() {
        std::thread::yield_now();
    }
    probe(cx).tell("told to stop");
    Ok(1)
});
task!(async Quick(_cx) -> i64 { Ok(1) });

fn tasks() -> Tasks {
    Tasks::new().with::<Waits>().with::<Looks>().with::<Quick>()
}

#[tokio::test]
async fn a_warm_shutdown_finishes_what_runs_and_hands_back_the_rest() {
    let mut bench = Bench::new();
    let worker = bench.start_with(tasks(), |config| {
        config.concurrency = slots(1);
        config.prefetch = Prefetch::Fixed(5);
    });
    let sent = bench.producer.send_batch((0..4).map(|_| signature::<Waits, _>(()))).await.unwrap();
    bench.told().await;
    bench.depth_becomes(0).await;
    worker.stop.shutdown();
    bench.depth_becomes(3).await;
    bench.open(1);
    worker.stopped().await;
    assert_eq!(output(&sent[0]).await, 1);
    assert_eq!(bench.told_so_far(), Vec::<String>::new(), "nothing else started");
    let delivery = bench.take().await;
    assert_eq!(delivery.message.task().unwrap().id, *sent[1].id(), "they are in order");
    assert_eq!(delivery.delivery_count, Some(1), "being handed back does not count");
}

#[tokio::test]
async fn a_cold_shutdown_drops_what_runs_and_hands_it_back() {
    let mut bench = Bench::new();
    let worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Waits, _>(())).await.unwrap();
    bench.told().await;
    worker.stop.shutdown_cold();
    worker.stopped().await;
    assert_eq!((bench.depth().await, result.state().await.unwrap()), (1, TaskState::Pending));
}

#[tokio::test]
async fn a_second_shutdown_is_cold() {
    let mut bench = Bench::new();
    let worker = bench.start(tasks());
    bench.producer.send(signature::<Waits, _>(())).await.unwrap();
    bench.told().await;
    worker.stop.shutdown();
    worker.stop.shutdown();
    worker.stopped().await;
    assert_eq!(bench.depth().await, 1);
}

#[tokio::test]
async fn a_blocking_task_is_told_of_a_cold_shutdown() {
    let mut bench = Bench::new();
    let worker = bench.start(tasks());
    bench.producer.send(signature::<Looks, _>(())).await.unwrap();
    assert_eq!(bench.told().await, "looks");
    worker.stop.shutdown_cold();
    worker.stopped().await;
    assert_eq!(bench.told().await, "told to stop");
    assert_eq!(bench.depth().await, 1);
}

#[tokio::test]
async fn a_warm_shutdown_turns_cold_when_its_time_is_over() {
    let mut bench = Bench::new();
    let worker = bench.start_with(tasks(), |config| config.shutdown_timeout = Some(Duration::from_millis(50)));
    bench.producer.send(signature::<Waits, _>(())).await.unwrap();
    bench.told().await;
    worker.shut_down().await;
    assert_eq!(bench.depth().await, 1);
}

#[tokio::test]
async fn a_worker_without_work_stops_at_once() {
    let bench = Bench::new();
    let worker = bench.start(tasks());
    worker.shut_down().await;
    let worker = bench.start(tasks());
    worker.stop.shutdown_cold();
    worker.stopped().await;
}

/// A bench whose results go to a backend of their own.
fn apart() -> (Bench, Arc<Flaky>) {
    let store = MemoryStore::new();
    let broker = Plain::new(store.connect(), Log::default());
    let backend = Flaky::new(store.connect(), Log::default());
    let bench = Bench::over(store, broker, Arc::<Flaky>::clone(&backend), ProducerConfig::default());
    (bench, backend)
}

#[tokio::test]
async fn the_time_of_a_shutdown_holds_also_while_results_cannot_be_stored() {
    let (mut bench, backend) = apart();
    backend.down_for.store(usize::MAX, Ordering::Relaxed);
    let worker = bench.start_with(tasks(), |config| config.shutdown_timeout = Some(Duration::from_millis(50)));
    bench.producer.send(signature::<Waits, _>(())).await.unwrap();
    bench.told().await;
    bench.open(1);
    worker.shut_down().await;
    assert_eq!(bench.depth().await, 1, "the task is handed back, to run again");
}

#[tokio::test]
async fn a_cold_shutdown_does_not_wait_for_a_backend_that_hangs() {
    let (bench, backend) = apart();
    backend.hangs.store(true, Ordering::Relaxed);
    let worker = bench.start(tasks());
    bench.producer.send(signature::<Quick, _>(())).await.unwrap();
    bench.depth_becomes(0).await;
    worker.stop.shutdown();
    worker.stop.shutdown();
    worker.stopped().await;
    assert_eq!(bench.depth().await, 1);
}
