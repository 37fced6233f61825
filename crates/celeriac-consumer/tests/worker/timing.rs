//! Expiry, countdown and ETA.

use std::sync::Arc;
use std::time::Duration;

use celeriac_consumer::Tasks;
use celeriac_core::{Clock as _, TaskHeaders, TaskId, TaskName, TaskState, Timestamp};
use celeriac_memory::MemoryStore;
use celeriac_producer::{ProducerConfig, ResultError, signature};
use celeriac_testkit::ManualClock;

use crate::support::{Bench, output, probe, slots, soon};
use crate::wrappers::{Log, Plain};

task!(async Now(cx) -> i64 {
    probe(cx).tell("ran");
    Ok(Timestamp::now().as_micros())
});
task!(async Waits(cx) -> i64 {
    probe(cx).tell("waits");
    probe(cx).pass().await;
    Ok(1)
});

fn tasks() -> Tasks {
    Tasks::new().with::<Now>().with::<Waits>()
}

/// A bench whose time stands still.
fn timed() -> (Bench, ManualClock) {
    let clock = ManualClock::new();
    let store = MemoryStore::with_clock(Arc::new(clock.clone()));
    let woken = store.clone();
    clock.on_change(move || woken.wake());
    let (broker, backend) = (Arc::new(store.clone()), Arc::new(store.clone()));
    (Bench::timed(store, broker, backend, ProducerConfig::default(), Arc::new(clock.clone())), clock)
}

/// A bench whose broker keeps no messages until they are due.
fn plain() -> Bench {
    let store = MemoryStore::new();
    let broker = Plain::new(store.connect(), Log::default());
    Bench::over(store.clone(), broker, Arc::new(store), ProducerConfig::default())
}

async fn revoked<R: serde::de::DeserializeOwned + std::fmt::Debug>(result: &celeriac_producer::AsyncResult<R>) {
    match soon(result.get()).await.unwrap_err() {
        ResultError::Revoked(failure) => {
            assert_eq!(failure.to_string(), "celery.exceptions.TaskRevokedError: expired");
        }
        other => panic!("{other}"),
    }
    assert_eq!(result.state().await.unwrap(), TaskState::Revoked);
}

#[tokio::test]
async fn an_expired_task_is_revoked_and_does_not_run() {
    let (mut bench, clock) = timed();
    let hour = Duration::from_secs(3_600);
    let late = bench.producer.send(signature::<Now, _>(()).expires(hour)).await.unwrap();
    let past = bench.producer.send(signature::<Now, _>(()).expires_at(Timestamp::from_micros(0))).await.unwrap();
    clock.advance(hour);
    let in_time = bench.producer.send(signature::<Now, _>(()).expires(hour)).await.unwrap();
    let worker = bench.start(tasks());
    revoked(&late).await;
    revoked(&past).await;
    output(&in_time).await;
    worker.shut_down().await;
    assert_eq!(bench.told_so_far(), ["ran"]);
    assert_eq!(bench.depth().await, 0);
}

#[tokio::test]
async fn a_countdown_holds_a_task_until_it_is_over_and_no_longer() {
    let (mut bench, clock) = timed();
    let _worker = bench.start(tasks());
    let minute = Duration::from_secs(60);
    let later = bench.producer.send(signature::<Now, _>(()).countdown(minute)).await.unwrap();
    for step in [Duration::ZERO, Duration::from_secs(59)] {
        clock.advance(step);
        // Whatever may run has run when a task that was sent after it has.
        output(&bench.producer.send(signature::<Now, _>(())).await.unwrap()).await;
        assert_eq!(bench.told_so_far().len(), 1, "after {step:?}");
        assert_eq!(later.state().await.unwrap(), TaskState::Pending);
    }
    clock.advance(Duration::from_secs(1));
    output(&later).await;
}

#[tokio::test]
async fn a_task_that_expires_while_it_waits_for_its_time_is_revoked() {
    let (bench, clock) = timed();
    let _worker = bench.start(tasks());
    let call = signature::<Now, _>(()).countdown(Duration::from_secs(60)).expires(Duration::from_secs(30));
    let result = bench.producer.send(call).await.unwrap();
    clock.advance(Duration::from_secs(60));
    revoked(&result).await;
}

#[tokio::test]
async fn an_eta_from_a_sender_that_did_not_delay_the_message_is_kept_by_the_broker() {
    let (mut bench, clock) = timed();
    let _worker = bench.start(tasks());
    let mut headers = TaskHeaders::new(TaskName::from_static("Now"), TaskId::random());
    let id = headers.id.clone();
    headers.eta = Some((clock.now() + Duration::from_secs(60)).into());
    bench.publish(headers, None, "[[],{},{}]").await;
    output(&bench.producer.send(signature::<Now, _>(())).await.unwrap()).await;
    assert_eq!(bench.told_so_far().len(), 1);
    clock.advance(Duration::from_secs(60));
    output(&bench.producer.result::<i64>(id)).await;
}

#[tokio::test]
async fn a_broker_that_cannot_delay_leaves_the_waiting_to_the_worker() {
    let bench = plain();
    let _worker = bench.start_with(tasks(), |config| config.concurrency = slots(1));
    let eta = Timestamp::now() + Duration::from_millis(300);
    let later = bench.producer.send(signature::<Now, _>(()).eta(eta)).await.unwrap();
    // The one slot is free meanwhile.
    let sooner = output(&bench.producer.send(signature::<Now, _>(())).await.unwrap()).await;
    let ran = output(&later).await;
    assert!(ran >= eta.as_micros() && sooner <= ran, "ran {ran}, due {}", eta.as_micros());
}

#[tokio::test]
async fn no_more_tasks_are_held_for_their_time_than_the_limit() {
    let mut bench = plain();
    let worker = bench.start_with(tasks(), |config| {
        config.concurrency = slots(1);
        config.eta_limit = 3;
    });
    let later = || signature::<Now, _>(()).countdown(Duration::from_secs(3_600));
    bench.producer.send_batch((0..10).map(|_| later())).await.unwrap();
    bench.depth_becomes(7).await;
    worker.shut_down().await;
    assert_eq!(bench.told_so_far(), Vec::<String>::new());
    assert_eq!(bench.depth().await, 10, "what was held is handed back");
}

#[tokio::test]
async fn tasks_held_for_their_time_go_back_when_the_worker_is_dropped() {
    let bench = plain();
    let worker = bench.start(tasks());
    bench.producer.send(signature::<Now, _>(()).countdown(Duration::from_secs(3_600))).await.unwrap();
    bench.depth_becomes(0).await;
    drop(worker);
    bench.depth_becomes(1).await;
}
