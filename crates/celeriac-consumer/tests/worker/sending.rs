//! Sending: by name, in batches, where to, and when it cannot be done.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use celeriac_broker::Broker as _;
use celeriac_consumer::Tasks;
use celeriac_core::{ErrorKind, Priority, QueueName, Signature, TaskState, Value};
use celeriac_memory::MemoryStore;
use celeriac_producer::{ProducerConfig, Route, Router, signature};

use crate::support::{Bench, output, slots, soon};
use crate::wrappers::{Flaky, Log, Plain};

task!(async Add(_cx, x: i64, y: i64) -> i64 { Ok(x + y) });
task!(async Where(cx) -> (String, u8) {
    Ok((cx.queue().as_str().to_owned(), 0))
});
task!(#[queue = QueueName::from_static("own")] async Own(cx) -> String { Ok(cx.queue().as_str().to_owned()) });
task!(async Header(cx) -> Option<String> {
    Ok(cx.headers().extra.get("tenant").and_then(Value::as_str).map(str::to_owned))
});

fn tasks() -> Tasks {
    Tasks::new().with::<Add>().with::<Where>().with::<Own>().with::<Header>()
}

async fn depth(bench: &Bench, queue: &'static str) -> u64 {
    bench.store.depth(&QueueName::from_static(queue)).await.unwrap()
}

#[tokio::test]
async fn a_task_is_sent_by_name() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let call = Signature::named("Add").arg(2).kwarg("y", 3).option("task_id", "by-name");
    let result = bench.producer.send(call).await.unwrap();
    assert_eq!((result.id().as_str(), output(&result).await), ("by-name", Value::from(5)));
    assert_eq!(output(&result.cast::<i64>()).await, 5);
}

#[tokio::test]
async fn a_callers_header_reaches_the_task() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Header, _>(()).header("tenant", "blue")).await.unwrap();
    assert_eq!(output(&result).await.as_deref(), Some("blue"));
}

#[tokio::test]
async fn a_batch_with_a_bad_call_is_not_sent_at_all() {
    let bench = Bench::new();
    let good = || signature::<Add, _>((1, 2));
    let error = bench.producer.send_batch([good(), good().queue(""), good()]).await.unwrap_err();
    assert_eq!((error.kind(), bench.depth().await), (ErrorKind::Config, 0));
    let bad = Signature::named("Add").option("que", "x");
    assert!(bench.producer.send_batch([Signature::named("Add"), bad]).await.is_err());
    assert_eq!(bench.depth().await, 0);
    assert_eq!(bench.producer.send_batch(Vec::<Signature>::new()).await.unwrap().len(), 0);
    assert_eq!(bench.producer.send_batch([good(), good()]).await.unwrap().len(), 2);
    assert_eq!(bench.depth().await, 2);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_its_size() {
    let mut config = ProducerConfig::default();
    config.max_body_bytes = 1_000;
    let bench = Bench::configured(config);
    let call = |size: usize| Signature::named("Add").arg("x".repeat(size));
    let error = bench.producer.send(call(2_000)).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(text.contains("`Add`") && text.contains("the limit is 1000"), "{text}");
    bench.producer.send(call(100)).await.unwrap();
    assert_eq!(bench.depth().await, 1);
}

#[tokio::test]
async fn a_body_over_the_workers_limit_fails_the_task() {
    let bench = Bench::new();
    let _worker = bench.start_with(tasks(), |config| config.max_body_bytes = 1_000);
    let result = bench.producer.send(Signature::named("Add").arg("x".repeat(2_000))).await.unwrap();
    let (class, text) = crate::support::failed(&result).await;
    assert!(class == "kombu.exceptions.DecodeError" && text.contains("the limit is 1000"), "{class}: {text}");
}

#[tokio::test]
async fn publishing_that_takes_too_long_is_a_timeout() {
    let store = MemoryStore::new();
    let broker = Plain::new(store.connect(), Log::default());
    broker.hangs.store(true, Ordering::Relaxed);
    let mut config = ProducerConfig::default();
    config.publish_timeout = Duration::from_millis(20);
    let bench = Bench::over(store.clone(), Arc::<Plain>::clone(&broker), Arc::new(store), config);
    let error = soon(bench.producer.send(signature::<Add, _>((1, 2)))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.is_retryable() && error.to_string().contains("may have been sent"), "{error}");
    assert!(error.report().contains("it hangs for a test"), "why, if the broker knows: {}", error.report());
    broker.hangs.store(false, Ordering::Relaxed);
    bench.producer.send(signature::<Add, _>((1, 2))).await.unwrap();
}

#[tokio::test]
async fn call_task_table_and_default_name_the_queue_in_that_order() {
    let mut config = ProducerConfig::default();
    config.router = Router::new()
        .route("Own", Route::to(QueueName::from_static("table")))
        .and_then(|router| router.route("Wh*", Route::to(QueueName::from_static("wh")).priority(7)))
        .unwrap();
    config.default_queue = QueueName::from_static("rest");
    let bench = Bench::configured(config);
    bench.producer.send(signature::<Own, _>(()).queue("call")).await.unwrap();
    bench.producer.send(signature::<Own, _>(())).await.unwrap();
    bench.producer.send(signature::<Where, _>(())).await.unwrap();
    bench.producer.send(Signature::named("Whatever")).await.unwrap();
    bench.producer.send(signature::<Add, _>((1, 2))).await.unwrap();
    for (queue, expected) in [("call", 1), ("own", 1), ("table", 0), ("wh", 2), ("rest", 1), ("celery", 0)] {
        assert_eq!(depth(&bench, queue).await, expected, "{queue}");
    }
    let mut consumer =
        bench.store.consume(celeriac_broker::ConsumeOptions::new([QueueName::from_static("wh")])).await.unwrap();
    let delivery = soon(consumer.recv(slots(1))).await.unwrap().remove(0);
    assert_eq!(delivery.message.properties.priority, Some(Priority(7)));
}

#[tokio::test]
async fn a_worker_works_on_its_queues_and_no_others() {
    let bench = Bench::new();
    let worker = bench.start_with(tasks(), |config| {
        config.queues = vec![QueueName::from_static("a"), QueueName::from_static("b")];
    });
    let mut sent = Vec::new();
    for queue in ["c", "a", "b"] {
        sent.push(bench.producer.send(signature::<Where, _>(()).queue(queue)).await.unwrap());
    }
    assert_eq!(output(&sent[1]).await.0, "a");
    assert_eq!(output(&sent[2]).await.0, "b");
    worker.shut_down().await;
    assert_eq!((depth(&bench, "c").await, sent[0].state().await.unwrap()), (1, TaskState::Pending));
}

#[tokio::test]
async fn more_urgent_tasks_run_first() {
    task!(async Order(cx, what: String) -> () {
        crate::support::probe(cx).tell(what);
        Ok(())
    });
    let mut bench = Bench::new();
    for (what, priority) in [("low", 1_u8), ("none", 0), ("high", 9)] {
        bench.producer.send(signature::<Order, _>((what.to_owned(),)).priority(priority)).await.unwrap();
    }
    let _worker = bench.start_with(Tasks::new().with::<Order>(), |config| config.concurrency = slots(1));
    for what in ["high", "low", "none"] {
        assert_eq!(bench.told().await, what);
    }
}

#[tokio::test]
async fn a_format_or_compression_that_does_not_exist_is_refused_by_name() {
    let bench = Bench::new();
    let refused = bench.producer.send(signature::<Add, _>((1, 2)).serializer("pickle")).await.unwrap_err();
    assert!(refused.to_string().contains("pickle"), "{refused}");
    let refused = bench.producer.send(signature::<Add, _>((1, 2)).compression("nope")).await.unwrap_err();
    assert!(refused.to_string().contains("nope"), "{refused}");
    assert_eq!(bench.depth().await, 0);
}

#[tokio::test]
async fn a_canvas_signature_is_refused_where_it_is_sent() {
    let bench = Bench::new();
    let chain = Signature::chain(vec![Signature::named("Add"), Signature::named("Add")]);
    let error = bench.producer.send(chain).await.unwrap_err();
    assert_eq!((error.kind(), bench.depth().await), (ErrorKind::Unsupported, 0));
}

#[tokio::test]
async fn a_backend_of_its_own_serves_as_well() {
    let store = MemoryStore::new();
    let backend = Flaky::new(MemoryStore::new(), Log::default());
    let bench = Bench::over(store.clone(), Arc::new(store), backend, ProducerConfig::default());
    let worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Add, _>((1, 2))).await.unwrap();
    assert_eq!(output(&result).await, 3);
    worker.shut_down().await;
    assert_eq!(bench.meta(result.id()).await, None, "the broker's store has no results");
}
