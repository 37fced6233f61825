//! When messages are acknowledged, and in which order things happen.

use std::sync::Arc;

use celeriac_consumer::Tasks;
use celeriac_memory::MemoryStore;
use celeriac_producer::{ProducerConfig, signature};

use crate::support::{Bench, output, probe, slots};
use crate::wrappers::{Flaky, Log, Plain};

task!(#[acks_late = false] async Early(cx) -> i64 {
    probe(cx).tell("early");
    probe(cx).pass().await;
    Ok(1)
});
task!(async Late(cx) -> bool {
    probe(cx).tell("late");
    probe(cx).pass().await;
    Ok(cx.redelivered())
});
task!(async Sends(cx) -> i64 {
    cx.send(signature::<Early, _>(())).await?;
    Ok(1)
});

fn tasks() -> Tasks {
    Tasks::new().with::<Early>().with::<Late>().with::<Sends>()
}

#[tokio::test]
async fn an_early_acknowledged_task_is_not_repeated_after_a_crash() {
    let mut bench = Bench::new();
    let worker = bench.start(tasks());
    bench.producer.send(signature::<Early, _>(())).await.unwrap();
    assert_eq!(bench.told().await, "early");
    worker.stop.shutdown_cold();
    worker.stopped().await;
    assert_eq!(bench.depth().await, 0);
}

#[tokio::test]
async fn a_late_acknowledged_task_is_repeated_after_a_crash() {
    let mut bench = Bench::new();
    let worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Late, _>(())).await.unwrap();
    assert_eq!(bench.told().await, "late");
    drop(worker);
    bench.depth_becomes(1).await;
    let _worker = bench.start(tasks());
    bench.open(1);
    assert!(output(&result).await, "it is marked as redelivered");
}

#[tokio::test]
async fn the_workers_setting_holds_for_tasks_that_do_not_say() {
    let mut bench = Bench::new();
    let worker = bench.start_with(tasks(), |config| config.acks_late = false);
    bench.producer.send(signature::<Late, _>(())).await.unwrap();
    assert_eq!(bench.told().await, "late");
    worker.stop.shutdown_cold();
    worker.stopped().await;
    assert_eq!(bench.depth().await, 0);
}

#[tokio::test]
async fn a_result_is_stored_before_its_message_is_acknowledged() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let broker = Plain::new(store.connect(), Arc::clone(&log));
    let backend = Flaky::new(store.connect(), Arc::clone(&log));
    let bench = Bench::over(store, broker, backend, ProducerConfig::default());
    let worker = bench.start_with(tasks(), |config| config.concurrency = slots(1));
    let late = bench.producer.send(signature::<Late, _>(())).await.unwrap();
    bench.open(1);
    output(&late).await;
    worker.shut_down().await;
    assert_eq!(*log.lock().unwrap(), ["publish 1", "store 1", "ack"]);

    log.lock().unwrap().clear();
    let worker = bench.start_with(tasks(), |config| config.concurrency = slots(1));
    bench.open(1);
    let sends = bench.producer.send(signature::<Sends, _>(())).await.unwrap();
    output(&sends).await;
    bench.depth_becomes(0).await;
    worker.shut_down().await;
    // The call, the task it sends, its result, its acknowledgement; the other is acknowledged before it runs.
    assert_eq!(*log.lock().unwrap(), ["publish 1", "publish 1", "store 1", "ack", "ack", "store 1"]);
}

#[tokio::test]
async fn a_failing_store_and_acknowledgement_are_one_with_a_store_that_is_both() {
    let mut bench = Bench::new();
    let worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Late, _>(())).await.unwrap();
    assert_eq!(bench.told().await, "late");
    bench.open(1);
    output(&result).await;
    // Stored means acknowledged: a crash now repeats nothing.
    drop(worker);
    assert_eq!(bench.depth().await, 0);
}
