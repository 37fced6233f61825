//! How many tasks a worker runs, and how many it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use celeriac_consumer::{Prefetch, Tasks};
use celeriac_memory::MemoryStore;
use celeriac_producer::{ProducerConfig, signature};

use crate::support::{Bench, output, probe, slots, soon};
use crate::wrappers::{Log, Plain};

static RUNNING: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

task!(async Counted(cx) -> i64 {
    let running = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
    MOST.fetch_max(running, Ordering::SeqCst);
    probe(cx).tell("runs");
    probe(cx).pass().await;
    RUNNING.fetch_sub(1, Ordering::SeqCst);
    Ok(1)
});
task!(async Waits(cx) -> i64 {
    probe(cx).tell("waits");
    probe(cx).pass().await;
    Ok(1)
});
task!(async Stuck(cx) -> i64 {
    probe(cx).tell("stuck");
    std::future::pending::<()>().await;
    Ok(1)
});
task!(async Quick(cx) -> String {
    Ok(cx.worker().to_owned())
});

fn tasks() -> Tasks {
    Tasks::new().with::<Counted>().with::<Waits>().with::<Stuck>().with::<Quick>()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_tasks_run_at_once_than_there_are_slots() {
    let mut bench = Bench::new();
    let _worker = bench.start_with(tasks(), |config| {
        config.concurrency = slots(3);
        config.prefetch = Prefetch::Fixed(10);
    });
    let sent = bench.producer.send_batch((0..30).map(|_| signature::<Counted, _>(()))).await.unwrap();
    for _ in 0..3 {
        bench.told().await;
    }
    bench.open(30);
    for result in &sent {
        output(result).await;
    }
    assert_eq!(MOST.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn without_prefetch_no_more_is_taken_than_runs() {
    let mut bench = Bench::new();
    let _worker = bench.start(tasks());
    let sent = bench.producer.send_batch((0..6).map(|_| signature::<Waits, _>(()))).await.unwrap();
    bench.told().await;
    for left in (0..=4).rev() {
        bench.told().await;
        assert_eq!(bench.depth().await, left);
        bench.open(1);
    }
    bench.open(1);
    for result in &sent {
        output(result).await;
    }
}

#[tokio::test]
async fn a_fixed_prefetch_holds_so_many_ready() {
    let mut bench = Bench::new();
    let _worker = bench.start_with(tasks(), |config| {
        config.concurrency = slots(1);
        config.prefetch = Prefetch::Fixed(4);
    });
    bench.producer.send_batch((0..8).map(|_| signature::<Stuck, _>(()))).await.unwrap();
    bench.told().await;
    bench.depth_becomes(3).await;
}

#[tokio::test]
async fn a_broker_that_pushes_may_send_what_runs_and_what_is_held_ready() {
    for (prefetch, expected) in [(Prefetch::Fixed(0), 100), (Prefetch::Fixed(7), 107), (Prefetch::Adaptive(900), 1_000)]
    {
        let (store, log) = (MemoryStore::new(), Log::default());
        let plain = Plain::new(store.clone(), log);
        let bench = Bench::over(store.clone(), plain.clone(), Arc::new(store), ProducerConfig::default());
        let worker = bench.start_with(tasks(), |config| {
            config.concurrency = slots(100);
            config.prefetch = prefetch;
        });
        let sent = bench.producer.send(signature::<Quick, _>(())).await.unwrap();
        output(&sent).await;
        assert_eq!(plain.prefetch.load(Ordering::SeqCst), expected, "{prefetch:?}");
        worker.shut_down().await;
    }
}

#[tokio::test]
async fn what_waits_too_long_in_one_worker_goes_to_another() {
    // With eight it waits for room, with two for messages.
    for count in [8, 2] {
        let mut bench = Bench::new();
        let _hoarder = bench.start_with(tasks(), |config| {
            config.name = "hoarder".to_owned();
            config.concurrency = slots(1);
            config.prefetch = Prefetch::Fixed(10);
        });
        bench.producer.send(signature::<Stuck, _>(())).await.unwrap();
        bench.told().await;
        let sent = bench.producer.send_batch((0..count).map(|_| signature::<Quick, _>(()))).await.unwrap();
        bench.depth_becomes(0).await;
        let _other = bench.start_with(tasks(), |config| config.name = "other".to_owned());
        for result in &sent {
            assert_eq!(output(result).await, "other");
        }
    }
}

#[tokio::test]
async fn what_waits_too_long_goes_back_also_while_other_tasks_end() {
    let mut bench = Bench::new();
    // One slot is stuck, the other ends a task now and then: what is ready waits for longer than it should all the same.
    let _worker = bench.start_with(tasks(), |config| config.prefetch = Prefetch::Fixed(40));
    bench.producer.send(signature::<Stuck, _>(())).await.unwrap();
    bench.told().await;
    bench.producer.send_batch((0..30).map(|_| signature::<Waits, _>(()))).await.unwrap();
    bench.depth_becomes(0).await;
    let mut every = tokio::time::interval(Duration::from_millis(300));
    let (mut passed, mut depth) = (0, 0);
    while passed < 12 && depth == 0 {
        every.tick().await;
        bench.open(1);
        passed += 1;
        depth = bench.depth().await;
    }
    assert!(depth > 0, "after {passed} tasks nothing had gone back");
}

#[tokio::test]
async fn tasks_that_end_fast_are_fetched_ahead() {
    let store = MemoryStore::new();
    let broker = Plain::new(store.connect(), Log::default());
    let bench = Bench::over(store.clone(), Arc::<Plain>::clone(&broker), Arc::new(store), ProducerConfig::default());
    let worker = bench.start_with(tasks(), |config| config.prefetch = Prefetch::Adaptive(100));
    // How soon the worker knows that they end fast is a matter of time.
    soon(async {
        while broker.most.load(Ordering::Relaxed) <= 2 {
            let sent = bench.producer.send_batch((0..500).map(|_| signature::<Quick, _>(()))).await.unwrap();
            for result in &sent {
                output(result).await;
            }
        }
    })
    .await;
    worker.shut_down().await;
    assert!(broker.most.load(Ordering::Relaxed) <= 102, "{broker:?}");
    assert_eq!(bench.depth().await, 0);
}
