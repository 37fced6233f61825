//! How tasks end.

use std::collections::HashMap;
use std::sync::Mutex;

use celeriac_broker::Requeue;
use celeriac_consumer::{TaskError, Tasks};
use celeriac_core::{TaskFailure, TaskState, Value};
use celeriac_producer::signature;

use crate::support::{Bench, failed, output, probe, slots, stored};

task!(async Add(_cx, x: i64, y: i64) -> i64 { Ok(x + y) });
task!(sync AddBlocking(_cx, x: i64, y: i64) -> i64 { Ok(x + y) });
task!(sync ThreadName(_cx) -> String { Ok(std::thread::current().name().unwrap_or_default().to_owned()) });
task!(sync Blocks(cx) -> i64 {
    probe(cx).tell("blocks");
    probe(cx).pass_blocking();
    Ok(1)
});
task!(async Panics(_cx, what: String) -> () { panic!("async {what}") });
task!(sync PanicsBlocking(_cx, what: String) -> () { panic!("blocking {what}") });
task!(async PanicsSilently(_cx) -> () { std::panic::panic_any(5_u8) });
task!(async Parses(_cx, text: String) -> i64 { Ok(text.parse::<i64>()?) });
task!(async FailsAsPython(_cx) -> () { Err(TaskFailure::new("wireapp", "WireError", 42).with_traceback("at line 1"))? });
task!(async RejectsForGood(_cx) -> () { Err(TaskError::reject("no thanks", Requeue::No)) });
task!(async RejectsOnce(cx) -> bool {
    if cx.redelivered() { Ok(true) } else { Err(TaskError::reject("not yet", Requeue::Yes)) }
});
task!(async Ignores(cx) -> () {
    probe(cx).tell("ran");
    Err(TaskError::ignore())
});
task!(async Keys(_cx) -> HashMap<(i64, i64), i64> { Ok([((1, 2), 3)].into_iter().collect()) });
task!(async Big(_cx, size: usize) -> String { Ok("x".repeat(size)) });
task!(#[ignore_result = true] async Forgets(cx, fails: bool) -> i64 {
    probe(cx).tell("ran");
    if fails { Err(TaskError::new("it failed")) } else { Ok(1) }
});

fn tasks() -> Tasks {
    Tasks::new()
        .with::<Add>()
        .with::<AddBlocking>()
        .with::<ThreadName>()
        .with::<Blocks>()
        .with::<Panics>()
        .with::<PanicsBlocking>()
        .with::<PanicsSilently>()
        .with::<Parses>()
        .with::<FailsAsPython>()
        .with::<RejectsForGood>()
        .with::<RejectsOnce>()
        .with::<Ignores>()
        .with::<Keys>()
        .with::<Big>()
        .with::<Forgets>()
}

#[tokio::test]
async fn async_and_blocking_tasks_give_their_results() {
    let bench = Bench::new();
    let worker = bench.start(tasks());
    let one = bench.producer.send(signature::<Add, _>((2, 3))).await.unwrap();
    let other = bench.producer.send(signature::<AddBlocking, _>((20, 30))).await.unwrap();
    assert_eq!((output(&one).await, output(&other).await), (5, 50));
    let meta = bench.ended(one.id()).await;
    assert!(meta.date_done.is_some());
    assert_eq!(meta.children, Some(Vec::new()));
    worker.shut_down().await;
    assert_eq!(bench.depth().await, 0);
}

#[tokio::test]
async fn blocking_tasks_run_on_threads_of_the_workers_own() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let name = output(&bench.producer.send(signature::<ThreadName, _>(())).await.unwrap()).await;
    assert!(name.starts_with("celeriac-blocking-"), "{name}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_blocking_task_does_not_block_the_runtime() {
    let mut bench = Bench::new();
    let _worker = bench.start(tasks());
    let blocked = bench.producer.send(signature::<Blocks, _>(())).await.unwrap();
    assert_eq!(bench.told().await, "blocks");
    let other = bench.producer.send(signature::<Add, _>((2, 3))).await.unwrap();
    assert_eq!(output(&other).await, 5);
    bench.open(1);
    assert_eq!(output(&blocked).await, 1);
}

#[tokio::test]
async fn panics_are_failures_with_their_text_and_the_worker_goes_on() {
    let bench = Bench::new();
    let _worker = bench.start_with(tasks(), |config| config.concurrency = slots(1));
    let panic = |text: &str| ("celeriac.Panic".to_owned(), text.to_owned());
    let result = bench.producer.send(signature::<Panics, _>(("ouch".to_owned(),))).await.unwrap();
    assert_eq!(failed(&result).await, panic("async ouch"));
    let result = bench.producer.send(signature::<PanicsBlocking, _>(("ouch".to_owned(),))).await.unwrap();
    assert_eq!(failed(&result).await, panic("blocking ouch"));
    let result = bench.producer.send(signature::<PanicsSilently, _>(())).await.unwrap();
    assert_eq!(failed(&result).await, panic("a panic without a text"));
    // The one slot and the one thread are still there.
    let result = bench.producer.send(signature::<AddBlocking, _>((1, 1))).await.unwrap();
    assert_eq!(output(&result).await, 2);
}

#[tokio::test]
async fn an_error_is_stored_with_its_type_and_its_text() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Parses, _>(("x".to_owned(),))).await.unwrap();
    let expected = ("core::num::error.ParseIntError".to_owned(), "invalid digit found in string".to_owned());
    assert_eq!(failed(&result).await, expected);
}

#[tokio::test]
async fn a_failure_of_the_tasks_own_is_stored_as_it_is() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let result = bench.producer.send(signature::<FailsAsPython, _>(())).await.unwrap();
    assert_eq!(failed(&result).await, ("wireapp.WireError".to_owned(), "42".to_owned()));
    let meta = bench.ended(result.id()).await;
    assert_eq!(stored(&meta).get("exc_message"), Some(&Value::from(vec![Value::from(42)])));
    assert_eq!(meta.traceback.as_deref(), Some("at line 1"));
}

#[tokio::test]
async fn reject_without_requeue_is_a_failure_and_drops_the_message() {
    let bench = Bench::new();
    let worker = bench.start(tasks());
    let result = bench.producer.send(signature::<RejectsForGood, _>(())).await.unwrap();
    let meta = bench.ended(result.id()).await;
    // As Python stores it.
    let captured = [Value::from("no thanks"), Value::from(false)];
    assert_eq!(stored(&meta).get("exc_message").and_then(Value::as_list), Some(&captured[..]));
    assert_eq!(stored(&meta).get("exc_type"), Some(&Value::from("Reject")));
    worker.shut_down().await;
    assert_eq!(bench.depth().await, 0);
}

#[tokio::test]
async fn reject_with_requeue_runs_the_task_again() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let result = bench.producer.send(signature::<RejectsOnce, _>(())).await.unwrap();
    assert!(output(&result).await);
}

#[tokio::test]
async fn ignore_stores_nothing_and_drops_the_message() {
    let mut bench = Bench::new();
    let worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Ignores, _>(())).await.unwrap();
    assert_eq!(bench.told().await, "ran");
    worker.shut_down().await;
    assert_eq!((bench.meta(result.id()).await, bench.depth().await), (None, 0));
    assert_eq!(result.state().await.unwrap(), TaskState::Pending);
}

#[tokio::test]
async fn a_result_that_cannot_be_written_is_a_failure() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Keys, _>(())).await.unwrap();
    assert_eq!(failed(&result).await.0, "kombu.exceptions.EncodeError");
}

#[tokio::test]
async fn a_result_over_the_limit_is_a_failure_that_names_the_sizes() {
    let bench = Bench::new();
    let _worker = bench.start_with(tasks(), |config| config.max_result_bytes = 100);
    let result = bench.producer.send(signature::<Big, _>((1_000,))).await.unwrap();
    let (class, text) = failed(&result).await;
    assert_eq!(class, "celeriac.ResultTooLarge");
    assert!(text.contains("1002 bytes") && text.contains("100"), "{text}");
    let result = bench.producer.send(signature::<Big, _>((98,))).await.unwrap();
    assert_eq!(output(&result).await.len(), 98);
}

#[tokio::test]
async fn an_ignored_result_is_not_stored() {
    let mut bench = Bench::new();
    let worker = bench.start(tasks());
    let (mut ignored, call) = (Vec::new(), |fails| signature::<Forgets, _>((fails,)));
    for fails in [false, true] {
        ignored.push(bench.producer.send(call(fails)).await.unwrap());
        assert_eq!(bench.told().await, "ran");
    }
    ignored.push(bench.producer.send(signature::<Add, _>((1, 1)).ignore_result(true)).await.unwrap());
    let kept = bench.producer.send(call(false).ignore_result(false)).await.unwrap();
    assert_eq!(output(&kept).await, 1);
    worker.shut_down().await;
    for result in ignored {
        assert_eq!(bench.meta(result.id()).await, None);
        let error = result.get().await.unwrap_err();
        assert!(error.to_string().contains("was sent to ignore its result"), "{error}");
    }
}

#[tokio::test]
async fn an_ignored_result_is_not_even_written() {
    let bench = Bench::new();
    let worker = bench.start_with(tasks(), |config| {
        config.store_errors_even_if_ignored = true;
        config.max_result_bytes = 100;
    });
    let odd = bench.producer.send(signature::<Keys, _>(()).ignore_result(true)).await.unwrap();
    let long = bench.producer.send(signature::<Big, _>((1_000,)).ignore_result(true)).await.unwrap();
    let fails = bench.producer.send(signature::<Forgets, _>((true,))).await.unwrap();
    assert_eq!(bench.ended(fails.id()).await.state, TaskState::Failure);
    worker.shut_down().await;
    assert_eq!((bench.meta(odd.id()).await, bench.meta(long.id()).await), (None, None));
}

#[tokio::test]
async fn errors_are_stored_even_if_ignored_when_the_worker_is_told_so() {
    let bench = Bench::new();
    let worker = bench.start_with(tasks(), |config| config.store_errors_even_if_ignored = true);
    let fails = bench.producer.send(signature::<Forgets, _>((true,))).await.unwrap();
    let works = bench.producer.send(signature::<Forgets, _>((false,))).await.unwrap();
    assert_eq!(bench.ended(fails.id()).await.state, TaskState::Failure);
    worker.shut_down().await;
    assert_eq!(bench.meta(works.id()).await, None);
}

#[tokio::test]
async fn each_of_a_thousand_tasks_runs_exactly_once_on_two_workers() {
    struct Runs(Mutex<HashMap<String, usize>>);
    task!(async Counts(cx) -> () {
        let runs = cx.state::<Runs>().ok_or("no runs")?;
        *runs.0.0.lock().map_err(|_| "poisoned")?.entry(cx.id().as_str().to_owned()).or_default() += 1;
        Ok(())
    });
    let bench = Bench::new();
    let mut extensions = celeriac_consumer::Extensions::default();
    extensions.insert(Runs(Mutex::default()));
    let worker = || {
        let worker = celeriac_consumer::Worker::builder(bench.producer.clone(), Tasks::new().with::<Counts>())
            .extensions(extensions.clone())
            .build()
            .unwrap();
        (worker.handle(), tokio::spawn(worker.run()))
    };
    let workers = [worker(), worker()];
    let sent = bench.producer.send_batch((0..1_000).map(|_| signature::<Counts, _>(()))).await.unwrap();
    for result in &sent {
        output(result).await;
    }
    for (stop, run) in workers {
        stop.shutdown();
        crate::support::soon(run).await.unwrap().unwrap();
    }
    task!(async Read(cx) -> (usize, usize) {
        let runs = cx.state::<Runs>().ok_or("no runs")?;
        let runs = runs.0.0.lock().map_err(|_| "poisoned")?;
        Ok((runs.len(), runs.values().copied().max().unwrap_or_default()))
    });
    let reader = celeriac_consumer::Worker::builder(bench.producer.clone(), Tasks::new().with::<Read>())
        .extensions(extensions)
        .build()
        .unwrap();
    let reading = tokio::spawn(reader.run());
    let read = bench.producer.send(signature::<Read, _>(())).await.unwrap();
    assert_eq!(output(&read).await, (1_000, 1));
    assert_eq!(bench.depth().await, 0);
    reading.abort();
}
