//! RabbitMQ refuses: logins, permissions, declarations, messages. Each is told with its cure, and work goes on by itself once it is cured.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use celeriac::prelude::*;
use celeriac::{ErrorKind, QueueName, QueueSpec};
use celeriac_testkit::server::{ClientCertificate, Permissions, RabbitServer, Vhost};
use celeriac_tests::raw::Stranger;
use celeriac_tests::raw::lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use celeriac_tests::raw::lapin::types::{AMQPValue, FieldTable};
use celeriac_tests::raw::lapin::{BasicProperties, ExchangeKind};
use celeriac_tests::refused::{PASSWORD, http_server, names, refusal};
use celeriac_tests::runs::{PATIENCE, Runs, Worker, builder, twice};
use celeriac_tests::{log, until};
use tokio::sync::OnceCell;

/// The server of all tests that do it no harm.
async fn server() -> &'static RabbitServer {
    static SERVER: OnceCell<RabbitServer> = OnceCell::const_new();
    SERVER.get_or_init(RabbitServer::start).await
}

async fn app(url: &str) -> App {
    log::keep("info,lapin=off");
    builder(url, &Runs::default()).build().await.unwrap()
}

async fn works(app: &App, n: u64) {
    let sent = app.send(twice::s(n)).await.unwrap();
    assert_eq!(sent.get_timeout(PATIENCE).await.unwrap(), n * 2);
}

async fn ready(vhost: &Vhost<'_>, queue: &str) -> u64 {
    vhost.queue_info(queue).await.map_or(0, |info| info.ready)
}

/// How a worker ends that must not go on.
async fn ends(app: &App) -> celeriac::Error {
    let worker = app.worker().concurrency(1).build().unwrap();
    tokio::time::timeout(PATIENCE, worker.run()).await.expect("it ends by itself").unwrap_err()
}

#[tokio::test]
async fn what_is_wrong_with_the_url_or_its_server_is_said_at_the_start() {
    use ErrorKind::{Config, Unavailable};
    let server = RabbitServer::builder().tls(ClientCertificate::NotAsked).start().await;
    let (at, tls) = (server.address(), server.tls_address());
    names(&refusal(&format!("amqp://guest:{PASSWORD}@{at}//")).await, Config, "user `guest`");
    names(&refusal(&format!("amqp://who:{PASSWORD}@{at}//")).await, Config, "knows no user `who` with this password");
    names(&refusal(&format!("amqp://{at}/nowhere")).await, Config, "no virtual host `nowhere`");
    names(&refusal(&format!("amqp://{at}//?heartbeet=1")).await, Config, "`heartbeet`");
    names(&refusal(&format!("amqp://{at}//?password={PASSWORD}")).await, Config, "`password`");
    names(&refusal(&format!("amqp://{at}//?queue_type=quorums")).await, Config, "queue_type");
    // The one port for the other.
    names(&refusal(&format!("amqp://who:{PASSWORD}@{tls}//")).await, Config, "amqps://");
    names(&refusal(&format!("amqps://who:{PASSWORD}@{at}//")).await, Config, "amqp://");
    // Others, and nobody.
    let http = http_server().await;
    for error in [
        refusal(&format!("amqp://who:{PASSWORD}@{http}//")).await,
        refusal(&format!("amqp://who:{PASSWORD}@{http}//;{http}")).await,
    ] {
        names(&error, Unavailable, "is not RabbitMQ");
        names(&error, Unavailable, &http.to_string());
    }
    names(&refusal(&format!("amqps://who:{PASSWORD}@{http}//")).await, Config, "does not speak TLS");
    let redis = celeriac_testkit::server::RedisServer::start().await;
    names(&refusal(&format!("amqp://{}//", redis.address())).await, Unavailable, "does not answer");
    let gone = redis.address();
    drop(redis);
    names(&refusal(&format!("amqp://who:{PASSWORD}@{gone}//")).await, Unavailable, &gone.to_string());
}

#[tokio::test]
async fn a_queue_or_an_exchange_that_is_there_but_another_is_told_with_both_values() {
    log::keep("info,lapin=off");
    let vhost = server().await.vhost().await;
    let stranger = Stranger::new(&vhost.url()).await;
    let declare = async |name: &str, options: QueueDeclareOptions, arguments: FieldTable| {
        stranger.channel.queue_declare(name.into(), options, arguments).await.unwrap();
    };
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut nine = FieldTable::default();
    nine.insert("x-max-priority".into(), AMQPValue::LongInt(9));
    declare("urgent", durable, nine).await;
    declare("brief", QueueDeclareOptions::default(), FieldTable::default()).await;
    let kind = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    stranger.channel.exchange_declare("news".into(), ExchangeKind::Topic, kind, FieldTable::default()).await.unwrap();

    let plain = |name| QueueSpec::direct(QueueName::from_static(name));
    let build = async |spec| builder(&vhost.url(), &Runs::default()).queue(spec).build().await.unwrap_err();
    let error = build(plain("urgent")).await;
    names(
        &error,
        ErrorKind::Config,
        "queue `urgent` exists with another `max_priority`: it has `9`, and was to have `none`",
    );
    let mut urgent = plain("urgent");
    urgent.max_priority = Some(5);
    names(&build(urgent).await, ErrorKind::Config, "it has `9`, and was to have `5`");
    names(&build(plain("brief")).await, ErrorKind::Config, "`durable`: it has `false`, and was to have `true`");
    names(&build(plain("news")).await, ErrorKind::Config, "exchange `news` exists with another kind: it has `topic`");

    // Who does not declare them uses them as they are.
    let app = app(&vhost.url()).await;
    let worker = app.worker().queues(["urgent", "brief"]).build().unwrap();
    let stop = worker.handle();
    let working = tokio::spawn(worker.run());
    for queue in ["urgent", "brief"] {
        let sent = app.send(twice::s(1).queue(queue)).await.unwrap();
        assert_eq!(sent.get_timeout(PATIENCE).await.unwrap(), 2);
    }
    stop.shutdown();
    working.await.unwrap().unwrap();
    app.close().await.unwrap();
}

#[tokio::test]
async fn a_permission_that_lacks_is_named_and_can_be_given() {
    let vhost = server().await.vhost().await;
    let user = celeriac_testkit::unique("worker");
    vhost.add_user(&user, PASSWORD, Permissions { configure: "^$", write: "^$", read: "^$" }).await;
    let app = app(&vhost.url_as(&user, PASSWORD)).await;
    let error = app.send(twice::s(1).ignore_result(true)).await.unwrap_err();
    names(&error, ErrorKind::Config, "`celery`");
    names(&error, ErrorKind::Config, "permission");
    let error = app.send(twice::s(1).ignore_result(true).countdown(Duration::from_secs(5))).await.unwrap_err();
    names(&error, ErrorKind::Config, "permission");
    names(&ends(&app).await, ErrorKind::Config, "`celery`");
    Stranger::new(&vhost.url()).await.declare("celery").await;
    vhost.permit(&user, Permissions { configure: ".*", write: ".*", read: "^$" }).await;
    app.send(twice::s(1).ignore_result(true)).await.unwrap();
    let worker = Worker::start(&app, 1);
    until("the worker says it", async || log::says(&["WARN", "does not let this user read queue `celery`"])).await;
    vhost.permit(&user, Permissions::ALL).await;
    works(&app, 2).await;
    worker.stop().await;
    app.close().await.unwrap();
    assert!(!log::kept().contains(PASSWORD), "{}", log::kept());
}

#[tokio::test]
async fn a_queue_that_is_deleted_while_it_is_consumed_is_made_again() {
    let vhost = server().await.vhost().await;
    let app = app(&vhost.url()).await;
    let worker = Worker::start(&app, 2);
    works(&app, 0).await;
    for n in 1..=3 {
        vhost.server().ctl(&["delete_queue", "-p", vhost.name(), "celery"]).await;
        works(&app, n).await;
    }
    until("the worker says it", async || log::says(&["WARN", "the queue is gone", "celery"])).await;
    worker.stop().await;
    app.close().await.unwrap();
}

#[tokio::test]
async fn a_queue_that_another_connection_has_for_itself_is_named() {
    let vhost = server().await.vhost().await;
    let stranger = Stranger::new(&vhost.url()).await;
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    stranger.channel.queue_declare("celery".into(), exclusive, FieldTable::default()).await.unwrap();
    let app = app(&vhost.url()).await;
    names(&ends(&app).await, ErrorKind::Unavailable, "`celery` for itself (an exclusive queue)");
    // It goes with the stranger.
    stranger.connection.close(200, "bye".into()).await.unwrap();
    let worker = Worker::start(&app, 1);
    works(&app, 1).await;
    worker.stop().await;
    app.close().await.unwrap();
}

#[tokio::test]
async fn a_full_queue_is_told_and_worked_off() {
    let (vhost, runs) = (server().await.vhost().await, Runs::default());
    log::keep("info,lapin=off");
    let mut spec = QueueSpec::direct(QueueName::DEFAULT);
    spec.arguments.insert("x-max-length", 3);
    spec.arguments.insert("x-overflow", "reject-publish");
    let app = builder(&vhost.url(), &runs).queue(spec).build().await.unwrap();
    let mut results = Vec::new();
    for n in 0..3 {
        results.push(app.send(twice::s(n)).await.unwrap());
    }
    let error = app.send(twice::s(3)).await.unwrap_err();
    names(&error, ErrorKind::Unavailable, "routing key `celery`: a queue is full");
    let worker = Worker::start(&app, 1);
    for (result, n) in results.into_iter().zip(0..) {
        assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), n * 2);
    }
    works(&app, 4).await;
    assert_eq!(runs.of(3).all, 0);
    worker.stop().await;
    app.close().await.unwrap();
}

#[tokio::test]
async fn a_message_that_rabbitmq_would_not_take_is_told_and_nothing_else_suffers() {
    let vhost = server().await.vhost().await;
    let app = app(&format!("{}?frame_max=8192", vhost.url())).await;
    let worker = Worker::start(&app, 1);
    works(&app, 1).await;
    let error = app.send(twice::s(2).header("wide", "x".repeat(10_000))).await.unwrap_err();
    names(&error, ErrorKind::TooLarge, "`frame_max`");
    let error = app.send(twice::s(2).header("x".repeat(300), 1)).await.unwrap_err();
    names(&error, ErrorKind::TooLarge, "the name of a header");
    let error = app.send(twice::s(2).queue("x".repeat(200)).countdown(Duration::from_secs(5))).await.unwrap_err();
    names(&error, ErrorKind::TooLarge, "cannot be delayed");
    works(&app, 3).await;
    worker.stop().await;
    app.close().await.unwrap();
}

#[tokio::test]
async fn a_password_that_is_changed_under_a_worker_is_said_and_work_goes_on_when_it_is_right() {
    let server = RabbitServer::start().await;
    let vhost = server.vhost().await;
    vhost.add_user("worker", PASSWORD, Permissions::ALL).await;
    let app = app(&vhost.url_as("worker", PASSWORD)).await;
    let worker = Worker::start(&app, 1);
    works(&app, 1).await;
    let change = async |password: &str| server.ctl(&["change_password", "worker", password]).await;
    change("another").await;
    server.close_all_connections("for a test").await;
    until("it is said", async || log::says(&["knows no user `worker` with this password"])).await;
    let error = app.send(twice::s(2)).await.unwrap_err();
    names(&error, ErrorKind::Config, "knows no user `worker` with this password");
    change(PASSWORD).await;
    works(&app, 3).await;
    worker.stop().await;
    app.close().await.unwrap();
    assert!(!log::kept().contains(PASSWORD), "{}", log::kept());
}

#[tokio::test]
async fn a_virtual_host_that_is_deleted_under_a_worker_is_named() {
    let server = RabbitServer::start().await;
    let vhost = server.add_vhost("shop").await;
    let app = app(&vhost.url()).await;
    let worker = Worker::start(&app, 1);
    works(&app, 1).await;
    server.ctl(&["delete_vhost", "shop"]).await;
    until("it is said", async || log::says(&["no virtual host `shop`"])).await;
    names(&app.send(twice::s(2)).await.unwrap_err(), ErrorKind::Config, "no virtual host `shop`");
    server.add_vhost("shop").await;
    works(&app, 3).await;
    worker.stop().await;
    app.close().await.unwrap();
}

#[tokio::test]
async fn a_dead_letter_queue_that_is_full_keeps_no_worker_up() {
    let vhost = server().await.vhost().await;
    log::keep("info,lapin=off");
    let mut dead = QueueSpec::direct(QueueName::from_static("dead"));
    dead.arguments.insert("x-max-length", 1);
    dead.arguments.insert("x-overflow", "reject-publish");
    let mut spec = QueueSpec::direct(QueueName::DEFAULT);
    spec.arguments.insert("x-dead-letter-exchange", "");
    spec.arguments.insert("x-dead-letter-routing-key", "dead");
    let app = builder(&vhost.url(), &Runs::default()).queue(dead).queue(spec).build().await.unwrap();
    let stranger = Stranger::new(&vhost.url()).await;
    for _ in 0..3 {
        stranger.publish("celery", BasicProperties::default(), b"garbage").await;
    }
    let worker = app.worker().queues(["celery"]).build().unwrap();
    let stop = worker.handle();
    let working = tokio::spawn(worker.run());
    works(&app, 1).await;
    until("one is kept", async || ready(&vhost, "dead").await == 1).await;
    stop.shutdown();
    working.await.unwrap().unwrap();
    app.close().await.unwrap();
}
