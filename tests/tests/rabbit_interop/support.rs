//! A virtual host of RabbitMQ, and what both keep there.

use std::ops::Deref;

use celeriac::{App, AppBuilder, Result};
use celeriac_testkit::server::{RabbitServer, RedisServer, Vhost};
use celeriac_tests::python::PythonWorker;
use celeriac_tests::until;
use serde_json::{Value as Json, json};

use crate::pair::Pair;
pub(crate) use crate::pair::{PATIENCE, RustWorker, json_of, open_step, value};

/// The server of all tests of this process.
pub(crate) async fn server() -> &'static RabbitServer {
    RabbitServer::shared().await
}

/// A virtual host, an app in Rust and a client in Python. No worker yet.
pub(crate) struct Bench {
    pair: Pair,
    pub(crate) vhost: Vhost<'static>,
    /// Where both keep results, unless these are messages.
    redis: Option<RedisServer>,
}

impl Deref for Bench {
    type Target = Pair;

    fn deref(&self) -> &Pair {
        &self.pair
    }
}

impl Bench {
    /// With results in Redis.
    pub(crate) async fn new() -> Self {
        Self::with(&json!({}), "", |app| app).await
    }

    /// With results in Redis, settings of the client's app, what follows the URL of the app in Rust, and what else there is to say of it.
    pub(crate) async fn with(settings: &Json, options: &str, more: impl FnOnce(AppBuilder) -> AppBuilder) -> Self {
        let (vhost, redis) = (server().await.vhost().await, RedisServer::start().await);
        let more = |app: AppBuilder| more(app.result_backend(redis.url()));
        let pair = Pair::new((vhost.url(), redis.url()), settings, options, more).await;
        Self { pair, vhost, redis: Some(redis) }
    }

    /// With results by messages.
    pub(crate) async fn rpc() -> Self {
        Self::rpc_with(&json!({}), |app| app).await
    }

    /// As [`Bench::rpc`], with settings of the client's app, and what else there is to say of the app in Rust.
    pub(crate) async fn rpc_with(settings: &Json, more: impl FnOnce(AppBuilder) -> AppBuilder) -> Self {
        let vhost = server().await.vhost().await;
        let pair = Pair::new((vhost.url(), "rpc://".to_owned()), settings, "", more).await;
        Self { pair, vhost, redis: None }
    }

    /// Another app in Rust, which keeps its results where the first one does, if that is Redis.
    pub(crate) async fn another(&self, options: &str, more: impl FnOnce(AppBuilder) -> AppBuilder) -> Result<App> {
        let url = format!("{}{options}", self.vhost.url());
        let app = crate::tasks::app(&url, &self.place.traces(), &self.gate);
        more(self.redis.iter().fold(app, |app, redis| app.result_backend(redis.url()))).build().await
    }

    /// Waits until the queue has so many consumers.
    pub(crate) async fn consumed(&self, queue: &str, consumers: u64) {
        let consumed = async || self.vhost.queue_info(queue).await.is_some_and(|info| info.consumers == consumers);
        until(&format!("`{queue}` has {consumers} consumers"), consumed).await;
    }

    /// Closes all connections to the virtual host, as an operator does.
    pub(crate) async fn close_connections(&self) {
        let (all, host) = ("rabbit_networking:connection_info_all([pid, vhost])", self.vhost.name());
        let close = "rabbit_networking:close_connection(Pid, \"for a test\")";
        let closing = format!(r#"[{close} || [{{pid, Pid}}, {{vhost, <<"{host}">>}}] <- {all}]"#);
        assert_ne!(self.vhost.server().eval(&closing).await, "[]", "there are connections");
    }

    /// How many messages of the queue wait, and how many are in somebody's hands.
    pub(crate) async fn count(&self, queue: &str) -> (u64, u64) {
        self.vhost.queue_info(queue).await.map_or((0, 0), |info| (info.ready, info.unacked))
    }

    /// Waits until so many messages of the queue wait, and so many are in somebody's hands.
    pub(crate) async fn until(&self, queue: &str, wanted: (u64, u64)) {
        until(&format!("`{queue}` has {wanted:?}"), async || self.count(queue).await == wanted).await;
    }

    /// Waits until no message is in the queue, nor in anybody's hands.
    pub(crate) async fn is_empty(&self, queue: &str) {
        self.until(queue, (0, 0)).await;
    }
}

/// Sees to it that RabbitMQ has refused nothing of what a worker in Python declared.
pub(crate) fn assert_accepted(python: &PythonWorker) {
    let log = python.log();
    let refusals = ["PRECONDITION_FAILED", "PreconditionFailed", "NOT_IMPLEMENTED", "Failed to"];
    assert!(refusals.iter().all(|refusal| !log.contains(refusal)), "{log}");
}

/// Settings of an app in Python with quorum queues, which uses native delayed delivery.
pub(crate) fn quorum() -> Json {
    json!({
        "task_default_queue_type": "quorum", "task_default_exchange_type": "topic",
        "task_create_missing_queue_type": "quorum", "task_create_missing_queue_exchange_type": "topic",
    })
}
