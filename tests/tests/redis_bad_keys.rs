//! Another program uses our keys on Redis: the key is named, whatever does not need it goes on, and all goes on once the key is free.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use celeriac::prelude::*;
use celeriac::{QueueName, QueueSpec, TaskId};
use celeriac_testkit::server::RedisServer;
use celeriac_tests::log;
use celeriac_tests::redis::{envelope, undone};
use celeriac_tests::runs::{PATIENCE, Runs, builder, twice};
use celeriac_tests::until;

/// A countdown.
const SOON: Duration = Duration::from_millis(30);

/// A server, an app over it and a worker of the queues `celery` and `other`, which has worked.
struct Place {
    server: RedisServer,
    prefix: String,
    app: App,
    stop: celeriac::ShutdownHandle,
    working: tokio::task::JoinHandle<celeriac::Result<()>>,
}

impl Place {
    /// `what` tells its lines in the log from others'.
    async fn new(what: &str) -> Self {
        log::keep("info");
        let (server, prefix) = (RedisServer::start().await, format!("{what}:"));
        let url = format!("{}?lease=1&global_keyprefix={prefix}&result_keyprefix={prefix}", server.url());
        let app = builder(&url, &Runs::default()).build().await.unwrap();
        let worker = app.worker().concurrency(2).queues(["celery", "other"]).build().unwrap();
        let stop = worker.handle();
        let working = tokio::spawn(worker.run());
        let place = Self { server, prefix, app, stop, working };
        place.works("celery", 0).await;
        place
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Puts a value of another type at a key.
    async fn occupy(&self, name: &str, list: bool) {
        let key = self.key(name);
        let write =
            if list { "redis.call('RPUSH', KEYS[1], 'theirs')" } else { "redis.call('SET', KEYS[1], 'theirs')" };
        self.server.command(&["EVAL", &format!("redis.call('DEL', KEYS[1]) {write}"), "1", &key]).await;
        let kind = self.server.command(&["TYPE", &key]).await.text();
        assert_eq!(kind, if list { "list" } else { "string" });
    }

    async fn free(&self, name: &str) {
        self.server.command(&["DEL", &self.key(name)]).await;
    }

    /// Waits until the log names the key.
    async fn is_named(&self, name: &str) {
        let key = format!("`{}`", self.key(name));
        until(&format!("{key} is named in the log:\n{}", log::kept()), async || log::says(&[&key, "another type"]))
            .await;
    }

    async fn works(&self, queue: &'static str, n: u64) {
        let sent = self.app.send(twice::s(n).queue(queue)).await.unwrap();
        assert_eq!(sent.get_timeout(PATIENCE).await.unwrap(), n * 2);
    }

    async fn close(self) {
        self.stop.shutdown();
        self.working.await.unwrap().unwrap();
        self.app.close().await.unwrap();
        assert_eq!(undone(&self.server, 0, &self.prefix).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_list_of_another_type_stops_its_queue_alone() {
    let place = Place::new("list").await;
    place.occupy("celery", false).await;
    let error = place.app.send(twice::s(1)).await.unwrap_err();
    assert_eq!(error.kind(), celeriac::ErrorKind::Config);
    assert!(error.report().contains("`list:celery`"), "{}", error.report());
    let error = place.app.send(twice::s(1).countdown(SOON)).await.unwrap_err();
    assert!(error.report().contains("`list:celery`"), "{}", error.report());
    place.works("other", 2).await;
    place.is_named("celery").await;
    place.free("celery").await;
    place.works("celery", 3).await;
    place.close().await;
}

#[tokio::test]
async fn a_list_of_one_priority_stops_that_priority_alone() {
    const STEP: &str = "celery\u{6}\u{16}3";
    let place = Place::new("step").await;
    place.occupy(STEP, false).await;
    place.works("other", 1).await;
    place.works("celery", 2).await;
    place.is_named(STEP).await;
    let error = place.app.send(twice::s(3).priority(4)).await.unwrap_err();
    assert!(error.report().contains(&place.key(STEP)), "{}", error.report());
    place.free(STEP).await;
    let result = place.app.send(twice::s(3).priority(4)).await.unwrap();
    assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), 6);
    place.close().await;
}

#[tokio::test]
async fn a_key_for_parked_messages_stops_those_of_its_queue_alone() {
    const PARKED: &str = "_celeriac.parked.celery";
    let place = Place::new("parked").await;
    place.occupy(PARKED, false).await;
    place.works("celery", 1).await;
    // The keys of parked messages are looked at once there are any.
    let other = place.app.send(twice::s(2).queue("other").countdown(SOON)).await.unwrap();
    assert_eq!(other.get_timeout(PATIENCE).await.unwrap(), 4);
    let error = place.app.send(twice::s(3).countdown(SOON)).await.unwrap_err();
    assert_eq!(error.kind(), celeriac::ErrorKind::Config);
    assert!(error.report().contains("`parked:_celeriac.parked.celery`"), "{}", error.report());
    place.is_named(PARKED).await;
    place.works("celery", 4).await;
    place.free(PARKED).await;
    let later = place.app.send(twice::s(5).countdown(SOON)).await.unwrap();
    assert_eq!(later.get_timeout(PATIENCE).await.unwrap(), 10);
    place.close().await;
}

/// How many commands the server has carried out.
async fn commands(server: &RedisServer) -> u64 {
    let info = server.command(&["INFO", "stats"]).await.text();
    info.lines().find_map(|line| line.strip_prefix("total_commands_processed:")?.trim().parse().ok()).unwrap()
}

#[tokio::test]
async fn what_is_due_waits_in_peace_for_a_list_of_another_type() {
    let place = Place::new("due").await;
    let later = place.app.send(twice::s(1).countdown(SOON)).await.unwrap();
    place.occupy("celery", false).await;
    place.is_named("celery").await;
    let before = commands(&place.server).await;
    tokio::time::sleep(Duration::from_millis(500)).await; // wait: nothing much is to happen meanwhile
    let meanwhile = commands(&place.server).await - before;
    assert!(meanwhile < 200, "{meanwhile} commands in half a second");
    place.free("celery").await;
    assert_eq!(later.get_timeout(PATIENCE).await.unwrap(), 2);
    place.close().await;
}

#[tokio::test]
async fn what_cannot_be_parked_waits_in_peace_too() {
    const PARKED: &str = "_celeriac.parked.celery";
    let place = Place::new("eta").await;
    place.occupy(PARKED, false).await;
    // As Python sends it, or one of ours where no worker was alive.
    let mut message = envelope("twice", "later", 1);
    let eta = celeriac::core::Timestamp::now() + Duration::from_secs(3);
    message["headers"]["eta"] = eta.to_string().into();
    place.server.command(&["LPUSH", &place.key("celery"), &message.to_string()]).await;
    place.is_named(PARKED).await;
    let before = commands(&place.server).await;
    place.works("celery", 2).await;
    tokio::time::sleep(Duration::from_millis(1_000)).await; // wait: nothing much is to happen meanwhile
    let meanwhile = commands(&place.server).await - before;
    assert!(meanwhile < 200, "{meanwhile} commands in a second");
    place.free(PARKED).await;
    let later = place.app.result::<u64>(TaskId::new("later").unwrap());
    assert_eq!(later.get_timeout(PATIENCE).await.unwrap(), 2);
    assert!(celeriac::core::Timestamp::now() >= eta);
    place.close().await;
}

#[tokio::test]
async fn keys_that_all_queues_share_are_named_and_waited_for() {
    let keys = [
        ("unacked", true),
        ("unacked", false),
        ("unacked_index", true),
        ("unacked_index", false),
        ("_celeriac.taken", true),
        ("_celeriac.taken", false),
        ("_celeriac.workers", true),
        ("_celeriac.parked", false),
    ];
    for (number, (key, list)) in keys.into_iter().enumerate() {
        let place = Place::new(&format!("shared{number}")).await;
        place.occupy(key, list).await;
        let results = place.app.send_batch((1..=3).map(twice::s)).await.unwrap();
        // What is parked is another way.
        let later = place.app.send(twice::s(9).countdown(SOON)).await;
        if let Err(error) = &later {
            assert!(error.report().contains(&format!("`{}`", place.key(key))), "{}", error.report());
        } else {
            place.is_named(key).await;
        }
        place.free(key).await;
        for (result, n) in results.into_iter().zip(1..) {
            assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), n * 2, "{key}");
        }
        if let Ok(later) = later {
            assert_eq!(later.get_timeout(PATIENCE).await.unwrap(), 18, "{key}");
        }
        place.close().await;
    }
}

#[tokio::test]
async fn a_result_that_cannot_be_stored_stops_no_other() {
    let place = Place::new("result").await;
    let id = TaskId::new("occupied").unwrap();
    place.occupy("celery-task-meta-occupied", true).await;
    let occupied = place.app.send(twice::s(1).task_id("occupied")).await.unwrap();
    let error = occupied.get_timeout(PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("`result:celery-task-meta-occupied`"), "{error}");
    place.works("celery", 2).await;
    until("it is said that it has none", async || log::says(&["stays without a result", "occupied"])).await;
    place.free("celery-task-meta-occupied").await;
    assert!(place.app.result::<u64>(id).meta().await.unwrap().is_none());
    place.close().await;
}

#[tokio::test]
async fn what_is_no_message_is_dropped_where_it_cannot_be_set_aside() {
    let place = Place::new("aside").await;
    place.occupy("_celeriac.aside", false).await;
    place.server.command(&["LPUSH", &place.key("celery"), "garbage"]).await;
    place.works("celery", 1).await;
    assert!(log::says(&["no message", "no JSON object"]));
    place.free("_celeriac.aside").await;
    place.close().await;
}

#[tokio::test]
async fn exchanges_and_queues_that_cannot_be_recorded_are_named() {
    use celeriac::broker::{Destination, ExchangeKind, Outgoing};
    use celeriac::core::Message;
    let server = RedisServer::start().await;
    let build = async || {
        let spec = QueueSpec::direct(QueueName::from_static("bound"));
        let spec = spec.bound_to("news".parse().unwrap(), ExchangeKind::Topic, "a.*".parse().unwrap());
        builder(&server.url(), &Runs::default()).queue(spec).build().await
    };
    for key in ["_kombu.binding.news", "_kombu.binding_permanent.news", "_celeriac.queues", "_celeriac.exchanges"] {
        server.command(&["SET", key, "theirs"]).await;
        let error = build().await.unwrap_err();
        assert_eq!(error.kind(), celeriac::ErrorKind::Config);
        assert!(error.report().contains(&format!("key `{key}` holds another type")), "{}", error.report());
        server.command(&["DEL", key]).await;
    }
    let app = build().await.unwrap();
    // Once all is declared, it is publishing that meets it.
    server.command(&["SET", "_kombu.binding.news", "theirs"]).await;
    let destination = Destination { exchange: "news".parse().unwrap(), routing_key: "a.b".parse().unwrap() };
    let error = app.broker().publish(vec![Outgoing::new(Message::default(), destination)]).await.unwrap_err();
    assert!(error.report().contains("key `_kombu.binding.news` holds another type"), "{}", error.report());
    // And consuming.
    server.command(&["SET", "_celeriac.fanouts.bound", "theirs"]).await;
    let error = app.worker().queues(["bound"]).build().unwrap().run().await.unwrap_err();
    assert!(error.report().contains("key `_celeriac.fanouts.bound` holds another type"), "{}", error.report());
    app.close().await.unwrap();
}
