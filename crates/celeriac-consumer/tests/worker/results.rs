//! What a sender can ask of a result.

use std::sync::Arc;
use std::time::Duration;

use celeriac_consumer::Tasks;
use celeriac_core::{ErrorKind, TaskState};
use celeriac_memory::MemoryStore;
use celeriac_producer::{AsyncResult, Producer, ProducerConfig, ResultError, signature};
use celeriac_testkit::ManualClock;

use crate::support::{Bench, output, probe, soon};

task!(async Waits(cx) -> i64 {
    probe(cx).tell("waits");
    probe(cx).pass().await;
    Ok(7)
});
task!(async Fails(_cx) -> i64 { Err("boom")? });

fn tasks() -> Tasks {
    Tasks::new().with::<Waits>().with::<Fails>()
}

#[tokio::test]
async fn waiting_ends_when_the_time_is_over_and_the_task_goes_on() {
    let mut bench = Bench::new();
    let _worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Waits, _>(())).await.unwrap();
    bench.told().await;
    let error = result.get_timeout(Duration::from_millis(10)).await.unwrap_err();
    assert!(error.is_timeout() && error.failure().is_none(), "{error}");
    assert_eq!(result.state().await.unwrap(), TaskState::Pending);
    bench.open(1);
    assert_eq!(result.get_timeout(crate::support::DEADLINE).await.unwrap(), 7);
    assert_eq!(result.state().await.unwrap(), TaskState::Success);
    assert_eq!(result.failure().await.unwrap(), None);
}

#[tokio::test]
async fn many_may_wait_for_one_result_before_and_after_it_is_there() {
    let mut bench = Bench::new();
    let _worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Waits, _>(())).await.unwrap();
    bench.told().await;
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let result = result.clone();
            tokio::spawn(async move { result.get().await.unwrap() })
        })
        .collect();
    bench.open(1);
    for waiter in waiting {
        assert_eq!(soon(waiter).await.unwrap(), 7);
    }
    assert_eq!(output(&result).await, 7);
}

#[tokio::test]
async fn a_failure_can_be_asked_for_without_waiting() {
    let bench = Bench::new();
    let result = bench.producer.send(signature::<Fails, _>(())).await.unwrap();
    assert_eq!(result.failure().await.unwrap(), None);
    let _worker = bench.start(tasks());
    assert_eq!(soon(result.wait()).await.unwrap().state, TaskState::Failure);
    assert_eq!(result.failure().await.unwrap().unwrap().message(), "boom");
    let error = result.get().await.unwrap_err();
    assert_eq!(error.to_string(), "the task failed: celeriac.TaskError: boom");
}

#[tokio::test]
async fn a_forgotten_result_is_gone() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Waits, _>(())).await.unwrap();
    bench.open(1);
    output(&result).await;
    result.forget().await.unwrap();
    assert_eq!(result.meta().await.unwrap(), None);
    assert_eq!(result.state().await.unwrap(), TaskState::Pending);
    result.forget().await.unwrap();
}

#[tokio::test]
async fn a_result_can_be_read_as_another_type_if_it_is_one() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Waits, _>(())).await.unwrap();
    bench.open(1);
    output(&result).await;
    assert_eq!(output(&result.cast::<u8>()).await, 7);
    let error = soon(result.cast::<String>().get()).await.unwrap_err();
    assert!(matches!(&error, ResultError::Backend(error) if error.kind() == ErrorKind::Malformed), "{error}");
    assert!(error.to_string().contains("String"), "{error}");
}

#[tokio::test]
async fn another_process_reads_the_result_by_its_id() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let sent = bench.producer.send(signature::<Waits, _>(())).await.unwrap();
    let other = bench.store.connect();
    let other = Producer::builder(Arc::new(other.clone())).backend(Arc::new(other)).build().unwrap();
    let result: AsyncResult<i64> = other.result(sent.id().clone());
    bench.open(1);
    assert_eq!(output(&result).await, 7);
}

#[tokio::test]
async fn without_a_backend_tasks_run_and_results_are_a_clear_error() {
    let store = MemoryStore::new();
    let mut bench = Bench::new();
    let producer = Producer::builder(Arc::new(store.clone())).build().unwrap();
    bench.producer = producer;
    bench.store = store;
    let worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Waits, _>(())).await.unwrap();
    bench.told().await;
    bench.open(1);
    let error = result.get().await.unwrap_err();
    assert!(error.to_string().contains("there is no result backend"), "{error}");
    worker.shut_down().await;
    assert_eq!(bench.depth().await, 0);
}

#[tokio::test]
async fn results_are_kept_as_long_as_they_are_said_to_be() {
    task!(#[result_expires = Duration::from_secs(60)] async Brief(_cx) -> i64 { Ok(1) });
    task!(async Plain(_cx) -> i64 { Ok(2) });
    let clock = ManualClock::new();
    let store = MemoryStore::with_clock(Arc::new(clock.clone()));
    let (broker, backend) = (Arc::new(store.clone()), Arc::new(store.clone()));
    let bench = Bench::timed(store, broker, backend, ProducerConfig::default(), Arc::new(clock.clone()));
    let _worker = bench.start_with(Tasks::new().with::<Brief>().with::<Plain>(), |config| {
        config.result_expires = Some(Duration::from_secs(600));
    });
    let brief = bench.producer.send(signature::<Brief, _>(())).await.unwrap();
    let plain = bench.producer.send(signature::<Plain, _>(())).await.unwrap();
    assert_eq!((output(&brief).await, output(&plain).await), (1, 2));
    for (seconds, kept) in [(59, (true, true)), (2, (false, true)), (538, (false, true)), (2, (false, false))] {
        clock.advance(Duration::from_secs(seconds));
        let found = (brief.meta().await.unwrap().is_some(), plain.meta().await.unwrap().is_some());
        assert_eq!(found, kept, "{:?}", bench.clock.now());
    }
}
