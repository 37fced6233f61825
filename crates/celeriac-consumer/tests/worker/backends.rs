//! Result backends that fail.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use celeriac_consumer::{Prefetch, Tasks};
use celeriac_core::{TaskHeaders, TaskId, TaskName};
use celeriac_memory::MemoryStore;
use celeriac_producer::{ProducerConfig, signature};

use crate::support::{Bench, DEADLINE, failed, output, probe, slots};
use crate::wrappers::{Flaky, Log, Plain};

task!(async Double(cx, x: i64) -> i64 {
    probe(cx).pass().await;
    Ok(2 * x)
});

fn bench() -> (Bench, Arc<Flaky>, Log) {
    let (store, log) = (MemoryStore::new(), Log::default());
    let broker = Plain::new(store.connect(), Log::default());
    let backend = Flaky::new(store.connect(), Arc::clone(&log));
    let bench = Bench::over(store, broker, Arc::<Flaky>::clone(&backend), ProducerConfig::default());
    (bench, backend, log)
}

fn tasks() -> Tasks {
    Tasks::new().with::<Double>()
}

#[tokio::test]
async fn a_result_is_stored_when_the_backend_is_back() {
    let (bench, backend, log) = bench();
    backend.down_for.store(3, Ordering::Relaxed);
    let worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Double, _>((2,))).await.unwrap();
    bench.open(1);
    assert_eq!(output(&result).await, 4);
    worker.shut_down().await;
    assert_eq!(*log.lock().unwrap(), ["down", "down", "down", "store 1"]);
    assert_eq!(bench.depth().await, 0, "the message is gone, and was not lost");
}

#[tokio::test]
async fn a_task_without_a_result_does_not_wait_for_the_results_of_others() {
    let (store, settled) = (MemoryStore::new(), Log::default());
    let broker = Plain::new(store.connect(), Arc::clone(&settled));
    let backend = Flaky::new(store.connect(), Log::default());
    let bench = Bench::over(store, broker, Arc::<Flaky>::clone(&backend), ProducerConfig::default());
    backend.down_for.store(1_000_000, Ordering::Relaxed);
    let worker = bench.start_with(tasks(), |config| {
        config.concurrency = slots(10);
        config.prefetch = Prefetch::Fixed(10);
    });
    let calls = (0..10_i64).map(|x| signature::<Double, _>((x,)).ignore_result(x % 2 == 0));
    let sent = bench.producer.send_batch(calls).await.unwrap();
    // They end together, and so are settled in one batch.
    bench.open(10);
    let acknowledged = || settled.lock().unwrap().iter().filter(|word| word.starts_with("ack")).count();
    celeriac_testkit::eventually(DEADLINE, async || acknowledged() == 5).await;
    backend.down_for.store(0, Ordering::Relaxed);
    for (x, result) in sent.iter().enumerate().filter(|(x, _)| x % 2 == 1) {
        assert_eq!(output(result).await, 2 * i64::try_from(x).unwrap());
    }
    worker.shut_down().await;
    assert_eq!((acknowledged(), bench.depth().await), (10, 0));
}

/// Ten tasks that end together, of which the backend refuses the fourth.
async fn ten_with_one_refused(bench: &Bench, backend: &Flaky) -> Vec<celeriac_producer::AsyncResult<i64>> {
    let ids: Vec<TaskId> = (0..10).map(|_| TaskId::random()).collect();
    backend.refuses.lock().unwrap().insert(ids[3].clone());
    let calls = ids.iter().zip(0_i64..).map(|(id, x)| signature::<Double, _>((x,)).task_id(id.as_str().to_owned()));
    let sent = bench.producer.send_batch(calls).await.unwrap();
    bench.open(10);
    sent
}

#[tokio::test]
async fn a_result_that_is_refused_is_a_failure_and_harms_no_other() {
    let (bench, backend, _) = bench();
    let worker = bench.start_with(tasks(), |config| {
        config.concurrency = slots(10);
        config.prefetch = Prefetch::Fixed(10);
    });
    let sent = ten_with_one_refused(&bench, &backend).await;
    for (at, x) in [(0, 0), (1, 2), (2, 4), (4, 8), (9, 18)] {
        assert_eq!(output(&sent[at]).await, x);
    }
    let (class, text) = failed(&sent[3]).await;
    assert!(class == "celeriac.ResultNotStored" && text.contains("is refused"), "{class}: {text}");
    worker.shut_down().await;
    assert_eq!(bench.depth().await, 0);
}

#[tokio::test]
async fn a_task_that_cannot_even_fail_harms_no_other() {
    let (bench, backend, _) = bench();
    backend.refuses_all.store(true, Ordering::Relaxed);
    let worker = bench.start_with(tasks(), |config| {
        config.concurrency = slots(10);
        config.prefetch = Prefetch::Fixed(10);
    });
    let sent = ten_with_one_refused(&bench, &backend).await;
    for (at, x) in [(0, 0), (4, 8), (9, 18)] {
        assert_eq!(output(&sent[at]).await, x);
    }
    worker.shut_down().await;
    assert_eq!(bench.depth().await, 0, "it is given up, not run for ever");
    assert_eq!(bench.meta(sent[3].id()).await, None);
}

#[tokio::test]
async fn a_result_over_the_limit_of_the_store_is_a_failure() {
    let store = celeriac_memory::MemoryConfig::new().max_message_bytes(1_000).open();
    task!(async Big(_cx) -> String { Ok("x".repeat(2_000)) });
    let bench = Bench::over(store.clone(), Arc::new(store.clone()), Arc::new(store), ProducerConfig::default());
    let worker = bench.start(Tasks::new().with::<Big>());
    let result = bench.producer.send(signature::<Big, _>(())).await.unwrap();
    let (class, text) = failed(&result).await;
    assert!(class == "celeriac.ResultNotStored" && text.contains("2002 bytes"), "{class}: {text}");
    worker.shut_down().await;
    assert_eq!(bench.depth().await, 0);
}

#[tokio::test]
async fn every_record_of_a_task_repeats_the_messages_correlation_id_or_else_the_tasks_id() {
    task!(#[track_started = true] async Tracked(cx) -> i64 {
        probe(cx).pass().await;
        Ok(1)
    });
    for correlation in [Some("the-callers-own"), None] {
        let (bench, backend, _) = bench();
        let worker = bench.start(Tasks::new().with::<Tracked>());
        let headers = TaskHeaders::new(TaskName::from_static("Tracked"), TaskId::random());
        let id = headers.id.clone();
        bench.publish(headers, correlation, "[[], {}, {}]").await;
        // The first record is that of the start.
        celeriac_testkit::eventually(crate::support::DEADLINE, async || !backend.given.lock().unwrap().is_empty())
            .await;
        bench.open(1);
        bench.ended(&id).await;
        worker.shut_down().await;
        let given = std::mem::take(&mut *backend.given.lock().unwrap());
        assert_eq!(given.len(), 2);
        for record in given {
            assert_eq!(record.correlation_id.as_deref(), correlation.or(Some(id.as_str())), "{:?}", record.meta.state);
            assert_eq!(record.reply_to.as_deref(), Some("replies"));
        }
    }
}
