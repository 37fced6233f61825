//! Messages on RabbitMQ that are no tasks, or none that can be run, or have headers of all kinds: rejected with the cause or run, and the rest
//! goes on.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use celeriac::core::RoutingKey;
use celeriac::prelude::*;
use celeriac::{QueueName, TaskId};
use celeriac_testkit::server::{RabbitServer, Vhost};
use celeriac_tests::raw::lapin::BasicProperties;
use celeriac_tests::raw::lapin::types::{AMQPValue, DecimalValue, FieldTable, LongString};
use celeriac_tests::raw::{self, Stranger};
use celeriac_tests::redis::envelope;
use celeriac_tests::runs::{PATIENCE, Runs, Worker, builder, twice};
use celeriac_tests::{log, odd, until};
use tokio::sync::OnceCell;

/// A virtual host, an app over it, and a stranger who publishes to its queue.
struct Place {
    vhost: Vhost<'static>,
    runs: Runs,
    app: App,
    stranger: Stranger,
    reply_to: RoutingKey,
}

impl Place {
    async fn new() -> Self {
        Self::with("").await
    }

    async fn with(options: &str) -> Self {
        log::keep("info,lapin=off");
        static SERVER: OnceCell<RabbitServer> = OnceCell::const_new();
        let vhost = SERVER.get_or_init(RabbitServer::start).await.vhost().await;
        let runs = Runs::default();
        let app = builder(&format!("{}{options}", vhost.url()), &runs).build().await.unwrap();
        // The queue is there, and so is the one for replies.
        app.broker().declare(&celeriac::QueueSpec::direct(QueueName::DEFAULT)).await.unwrap();
        let backend = app.backend().unwrap();
        backend.fetch(&[]).await.unwrap();
        let reply_to = backend.reply_to().unwrap();
        let stranger = Stranger::new(&vhost.url()).await;
        Self { vhost, runs, app, stranger, reply_to }
    }

    /// Publishes a message whose result is to come here.
    async fn push(&self, id: &str, properties: BasicProperties, body: &[u8]) {
        let properties = properties.with_reply_to(self.reply_to.as_str().into()).with_correlation_id(id.into());
        self.stranger.publish("celery", properties, body).await;
    }

    /// Publishes a call of `twice` with more headers than it needs.
    async fn call(&self, id: &str, n: u64, headers: FieldTable) -> celeriac::AsyncResult<u64> {
        let body = format!("[[{n}], {{}}, {{}}]");
        self.push(id, raw::properties("twice", id, headers), body.as_bytes()).await;
        self.app.result(TaskId::new(id.to_owned()).unwrap())
    }

    async fn undone(&self) -> u64 {
        self.vhost.queue_info("celery").await.map_or(0, |info| info.ready + info.unacked)
    }

    /// Works until all is done that waits, and what was sent after it.
    async fn work(self) {
        let worker = Worker::start(&self.app, 2);
        let last = self.app.send(twice::s(1_000)).await.unwrap();
        assert_eq!(last.get_timeout(PATIENCE).await.unwrap(), 2_000, "what follows is done");
        until("the queue is empty", async || self.undone().await == 0).await;
        worker.stop().await;
        self.app.close().await.unwrap();
        assert_eq!(self.undone().await, 0);
    }
}

fn table(fields: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    fields.into_iter().map(|(name, value)| (name.into(), value)).collect::<std::collections::BTreeMap<_, _>>().into()
}

#[tokio::test]
async fn a_message_that_cannot_be_run_fails_its_task_with_the_cause() {
    let place = Place::new().await;
    let mut cases = odd::messages();
    cases.push(odd::odd("no-body", "DecodeError", "the body is not a list", |message| message["body"] = "".into()));
    cases.push(odd::odd("binary-body", "DecodeError", "the body is not a list", |message| {
        message["body"] = celeriac_tests::redis::to_base64(b"\0\xff\xfe\r\n\x80").into();
    }));
    let mut results = Vec::new();
    for odd in &cases {
        let (properties, body) = raw::message(&odd.message);
        place.push(odd.what, properties, &body).await;
        results.push(place.app.result::<u64>(TaskId::new(odd.what).unwrap()));
    }
    let typeless = raw::message(&envelope("twice", "no-type", 1));
    let without_type = BasicProperties::default().with_headers(typeless.0.headers().clone().unwrap());
    place.push("no-type", without_type, &typeless.1).await;
    let no_type = place.app.result::<u64>(TaskId::new("no-type").unwrap());
    let worker = Worker::start(&place.app, 1);
    let mut wrong = Vec::new();
    let expected = cases.iter().map(|odd| (odd.what, odd.class, odd.says));
    let expected = expected.chain([("no-type", "DecodeError", "content type is missing")]);
    for ((what, class, says), result) in expected.zip(results.into_iter().chain([no_type])) {
        let told = match result.get_timeout(PATIENCE).await {
            Err(ResultError::Failure(failure)) if failure.exc_type == class && failure.message().contains(says) => {
                continue;
            }
            Err(ResultError::Failure(failure)) => failure.to_string(),
            other => format!("{other:?}"),
        };
        wrong.push(format!("{what}: {told}"));
    }
    worker.stop().await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(place.runs.of(1).all, 0, "none of them ran");
    place.work().await;
}

#[tokio::test]
async fn a_message_without_a_task_is_dropped_and_said() {
    let place = Place::new().await;
    let without_id = table([("task", AMQPValue::LongString("twice".into()))]);
    let odd_names = table([("", AMQPValue::Void), ("id", AMQPValue::LongLongInt(5)), ("task", AMQPValue::Void)]);
    for (properties, body) in [
        (BasicProperties::default(), &b""[..]),
        (BasicProperties::default().with_content_type("application/json".into()), b"[[1], {}, {}]"),
        (BasicProperties::default().with_headers(without_id), b"[[1], {}, {}]"),
        (BasicProperties::default().with_headers(odd_names), b"\0\xff"),
        (BasicProperties::default().with_headers(FieldTable::default()).with_content_type("".into()), b"{}"),
    ] {
        place.stranger.publish("celery", properties, body).await;
    }
    let runs = place.runs.clone();
    place.work().await;
    assert_eq!(runs.of(1).all, 0);
    let kept = log::kept();
    assert_eq!(
        kept.lines().filter(|line| line.contains("unreadable message rejected") && line.contains(r#"id="?""#)).count(),
        5,
        "{kept}"
    );
}

#[tokio::test]
async fn what_is_rejected_goes_where_its_queue_sends_it() {
    let place = Place::new().await;
    let mut spec = celeriac::QueueSpec::direct(QueueName::from_static("strict"));
    spec.arguments.insert("x-dead-letter-exchange", "");
    spec.arguments.insert("x-dead-letter-routing-key", "dead");
    place.app.broker().declare(&spec).await.unwrap();
    place.app.broker().declare(&celeriac::QueueSpec::direct(QueueName::from_static("dead"))).await.unwrap();
    place.stranger.publish("strict", BasicProperties::default(), b"garbage").await;
    let worker = place.app.worker().queues(["strict"]).build().unwrap();
    let stop = worker.handle();
    let working = tokio::spawn(worker.run());
    until("it is a dead letter", async || place.vhost.queue_info("dead").await.unwrap().ready == 1).await;
    stop.shutdown();
    working.await.unwrap().unwrap();
    place.work().await;
}

/// Headers of every kind that AMQP and RabbitMQ have. It ends a connection over numbers that are none.
fn every_kind() -> FieldTable {
    let inner = table([("a", AMQPValue::LongInt(1)), ("ü", AMQPValue::LongString(LongString::from(&b"\xff\xfe"[..])))]);
    let mut nested = AMQPValue::Void;
    for _ in 0..100 {
        nested = AMQPValue::FieldArray(vec![nested].into());
    }
    table([
        ("t", AMQPValue::Boolean(true)),
        ("b", AMQPValue::ShortShortInt(i8::MIN)),
        ("B", AMQPValue::ShortShortUInt(u8::MAX)),
        ("s", AMQPValue::ShortInt(i16::MIN)),
        ("u", AMQPValue::ShortUInt(u16::MAX)),
        ("I", AMQPValue::LongInt(i32::MIN)),
        ("i", AMQPValue::LongUInt(u32::MAX)),
        ("l", AMQPValue::LongLongInt(i64::MIN)),
        ("f", AMQPValue::Float(f32::MIN)),
        ("d", AMQPValue::Double(f64::MIN_POSITIVE)),
        ("D", AMQPValue::DecimalValue(DecimalValue { scale: 255, value: u32::MAX })),
        ("S", AMQPValue::LongString(LongString::from(&b"\0\xff"[..]))),
        ("A", AMQPValue::FieldArray(vec![AMQPValue::FieldTable(inner.clone()), AMQPValue::Void].into())),
        ("T", AMQPValue::Timestamp(u64::MAX)),
        ("F", AMQPValue::FieldTable(inner)),
        ("V", AMQPValue::Void),
        ("x", AMQPValue::ByteArray(b"\0\xff\x80".to_vec().into())),
        ("deep", nested),
    ])
}

#[tokio::test]
async fn headers_of_every_kind_and_deaths_disturb_nothing() {
    for queue_type in ["classic", "quorum"] {
        let place = Place::with(&format!("?queue_type={queue_type}")).await;
        let worker = Worker::start(&place.app, 1);
        let kinds = place.call("kinds", 1, every_kind()).await;
        assert_eq!(kinds.get_timeout(PATIENCE).await.unwrap(), 2);
        // Each in the place of a header that means something.
        let names = [
            "eta",
            "expires",
            "retries",
            "timelimit",
            "group",
            "root_id",
            "parent_id",
            "origin",
            "argsrepr",
            "shadow",
            "stamps",
            "stamped_headers",
            "group_index",
            "replaced_task_nesting",
            "x-death",
            "x-first-death-queue",
            "x-first-death-reason",
            "x-delivery-count",
            "celeriac-due",
            "celeriac-expires",
            "celeriac-published",
            "celeriac-parked",
            "celeriac-held",
        ];
        let mut results = Vec::new();
        for (kind, value) in every_kind().inner() {
            for name in names {
                let id = format!("{name}-{kind}");
                let headers = table([(name, value.clone())]);
                results.push((place.call(&id, 2, headers).await, id));
            }
        }
        assert_eq!(results.len(), names.len() * every_kind().inner().len());
        for (result, id) in results {
            match result.get_timeout(PATIENCE).await {
                Ok(4) => {}
                Err(ResultError::Failure(failure)) => {
                    assert!(failure.exc_type == "InvalidTaskError", "{id}: {failure}");
                }
                other => panic!("{id}: {other:?}"),
            }
        }
        worker.stop().await;
        place.work().await;
    }
}

#[tokio::test]
async fn a_message_that_died_before_is_run() {
    let place = Place::new().await;
    let mut spec = celeriac::QueueSpec::direct(QueueName::from_static("waits"));
    spec.message_ttl = Some(Duration::from_millis(100));
    spec.arguments.insert("x-dead-letter-exchange", "");
    spec.arguments.insert("x-dead-letter-routing-key", "celery");
    place.app.broker().declare(&spec).await.unwrap();
    let properties = raw::properties("twice", "died", FieldTable::default());
    let properties = properties.with_reply_to(place.reply_to.as_str().into());
    place.stranger.publish("waits", properties, b"[[3], {}, {}]").await;
    let result = place.app.result::<u64>(TaskId::new("died").unwrap());
    let worker = Worker::start(&place.app, 1);
    assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), 6);
    worker.stop().await;
    place.work().await;
}

#[tokio::test]
async fn properties_at_their_limits_disturb_nothing() {
    let place = Place::new().await;
    let longest = "x".repeat(255);
    let plain = || raw::properties("twice", "limits", FieldTable::default());
    for (n, properties) in [
        plain().with_priority(255).with_delivery_mode(1),
        plain().with_timestamp(u64::MAX),
        plain().with_expiration("60000".into()).with_message_id(longest.as_str().into()),
        plain().with_type(longest.as_str().into()).with_app_id(longest.as_str().into()),
        plain().with_user_id("guest".into()).with_cluster_id(longest.as_str().into()),
        plain().with_content_encoding(longest.as_str().into()),
        plain().with_reply_to(longest.as_str().into()).with_correlation_id(longest.as_str().into()),
    ]
    .into_iter()
    .enumerate()
    {
        let body = format!("[[{}], {{}}, {{}}]", n + 10);
        place.stranger.publish("celery", properties, body.as_bytes()).await;
    }
    let runs = place.runs.clone();
    place.work().await;
    for n in 10..17 {
        assert_eq!(runs.of(n).all, 1, "{n}");
    }
}
