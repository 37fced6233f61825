//! What the tests share: a virtual host, an app in Rust, a client in Python, and workers of both kinds.

use std::time::Duration;

use celeriac::{App, AppBuilder, ResultError, ShutdownHandle, Signature, System, TaskFailure, Value, WorkerSetup};
use celeriac_amqp::{AmqpConfig, AmqpStore};
use celeriac_testkit::server::{RabbitServer, Vhost};
use celeriac_tests::Place;
use celeriac_tests::python::{Pool, PythonClient, PythonError, PythonOptions, PythonWorker};
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;

use crate::tasks::{self, Gate};

/// Long enough for whatever must happen, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The server of all tests of this process.
pub(crate) async fn server() -> &'static RabbitServer {
    RabbitServer::shared().await
}

/// A virtual host, an app in Rust and a client in Python; both send to it and get results by `rpc://`. No worker yet.
pub(crate) struct Bench {
    pub(crate) app: App,
    pub(crate) client: PythonClient,
    /// Where tasks in Rust wait.
    pub(crate) gate: Gate,
    /// Where tasks of both leave traces.
    pub(crate) place: Place,
    pub(crate) vhost: Vhost<'static>,
    /// Where Python keeps results.
    backend: String,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(&json!({}), |app| app).await
    }

    /// With settings of the client's app, and what else there is to say of the app in Rust.
    pub(crate) async fn with(settings: &Json, more: impl FnOnce(AppBuilder) -> AppBuilder) -> Self {
        Self::and("rpc://", settings, more).await
    }

    /// As [`Bench::with`], with another backend for Python.
    pub(crate) async fn and(backend: &str, settings: &Json, more: impl FnOnce(AppBuilder) -> AppBuilder) -> Self {
        let vhost = server().await.vhost().await;
        let client = PythonClient::start(&vhost.url(), backend, settings);
        let (place, gate) = (Place::new(), Gate::default());
        let builder = tasks::app(&vhost.url(), &place.traces(), &gate).scheme("amqp", open);
        let app = more(builder).build().await.unwrap();
        Self { app, client, gate, place, vhost, backend: backend.to_owned() }
    }

    /// Starts a worker in Rust, in this process, with connections of its own.
    pub(crate) async fn rust(&self) -> RustWorker {
        RustWorker::start(self.app.worker().concurrency(4)).await
    }

    /// Starts a worker in Python whose tasks run one after another.
    pub(crate) async fn solo(&self, settings: Json) -> PythonWorker {
        let options = PythonOptions { pool: Pool::Solo, settings, ..PythonOptions::default() };
        PythonWorker::start(&self.vhost.url(), &self.backend, options).await
    }

    /// Closes all connections to the virtual host, as an operator does.
    pub(crate) async fn close_connections(&self) {
        let (all, host) = ("rabbit_networking:connection_info_all([pid, vhost])", self.vhost.name());
        let close = "rabbit_networking:close_connection(Pid, \"for a test\")";
        let closing = format!(r#"[{close} || [{{pid, Pid}}, {{vhost, <<"{host}">>}}] <- {all}]"#);
        assert_ne!(self.vhost.server().eval(&closing).await, "[]", "there are connections");
    }

    /// Has Python send a task.
    pub(crate) async fn send(&self, name: &str, args: Json) -> String {
        self.client.send(name, args, json!({}), json!({})).await
    }

    /// Has Python send a task and wait for its result.
    pub(crate) async fn call(&self, name: &str, args: Json) -> Result<Json, PythonError> {
        self.client.get(&self.send(name, args).await).await
    }

    /// Has Rust send a task, and waits for its result.
    pub(crate) async fn get(&self, call: Signature) -> Result<Json, TaskFailure> {
        match self.app.send(call).await.unwrap().get_timeout(PATIENCE).await {
            Ok(value) => Ok(json_of(&value)),
            Err(ResultError::Failure(failure)) => Err(failure),
            Err(other) => panic!("{other}"),
        }
    }
}

async fn open(url: String) -> celeriac::Result<System> {
    let store = AmqpStore::open(AmqpConfig::from_url(&url)?).await?;
    Ok(System::new().broker(store.broker()).backend(store.backend()))
}

/// A worker in Rust, in this process.
pub(crate) struct RustWorker {
    handle: ShutdownHandle,
    running: JoinHandle<celeriac::Result<()>>,
}

impl RustWorker {
    pub(crate) async fn start(setup: WorkerSetup) -> Self {
        let worker = setup.build().unwrap();
        let (handle, started) = (worker.handle(), worker.started());
        let running = tokio::spawn(worker.run());
        assert!(started.await, "a worker starts");
        Self { handle, running }
    }

    /// Lets it finish what runs, and hand back the rest.
    pub(crate) async fn stop(self) {
        self.handle.shutdown();
        self.running.await.unwrap().unwrap();
    }
}

/// As celeriac has it.
pub(crate) fn value(json: Json) -> Value {
    serde_json::from_value(json).unwrap()
}

/// As the tests have it.
pub(crate) fn json_of(value: &Value) -> Json {
    serde_json::to_value(value).unwrap()
}
