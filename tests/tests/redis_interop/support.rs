//! What the tests share: a Redis, an app in Rust, a client in Python, and workers of both kinds.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use celeriac::{App, AppBuilder, AsyncResult, ShutdownHandle, TaskId, Value, WorkerSetup};
use celeriac_testkit::server::{Process, RedisServer};
use celeriac_tests::python::{Pool, PythonClient, PythonError, PythonOptions, PythonWorker};
use celeriac_tests::{Place, Traces, until};
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;

use crate::tasks::{self, Gate};

/// Long enough for whatever must happen, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A Redis, an app in Rust and a client in Python; both keep queues and results in its database 0. No worker yet.
pub(crate) struct Bench {
    pub(crate) app: App,
    pub(crate) client: PythonClient,
    /// Where tasks in Rust wait.
    pub(crate) gate: Gate,
    /// Where tasks of both leave traces.
    pub(crate) place: Place,
    pub(crate) server: RedisServer,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(&json!({}), "", |app| app).await
    }

    /// With settings of the client's app; with what follows the URL of the app in Rust, and what else there is to say of it.
    pub(crate) async fn with(settings: &Json, options: &str, more: impl FnOnce(AppBuilder) -> AppBuilder) -> Self {
        let server = RedisServer::start().await;
        let client = PythonClient::start(&server.url(), &server.url(), settings);
        let (place, gate) = (Place::new(), Gate::default());
        let builder = tasks::app(&format!("{}{options}", server.url()), &place.traces(), &gate);
        let app = more(builder).build().await.unwrap();
        Self { app, client, gate, place, server }
    }

    /// Starts a worker in Rust, in this process.
    pub(crate) async fn rust(&self) -> RustWorker {
        RustWorker::start(self.app.worker().concurrency(4)).await
    }

    /// Starts a worker in Rust, in a process of its own; it knows `peers.trace`, which takes so many seconds.
    pub(crate) fn actor(&self, options: &str, concurrency: usize, seconds: f64) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_actor"));
        let url = format!("{}{options}", self.server.url());
        command
            .args([&url, &self.place.path().display().to_string(), &concurrency.to_string()])
            .env("TRACE_SLEEP", seconds.to_string());
        Process::start(command, self.place.path()).unwrap()
    }

    /// Starts a worker in Python.
    pub(crate) async fn python(&self, options: PythonOptions) -> PythonWorker {
        PythonWorker::start(&self.server.url(), &self.server.url(), options).await
    }

    /// As [`Bench::python`]: its tasks run one after another, and `peers.trace` adds to the same file as in Rust.
    pub(crate) async fn solo(&self, settings: Json) -> PythonWorker {
        let env = vec![self.trace_file()];
        self.python(PythonOptions { pool: Pool::Solo, settings, env, ..PythonOptions::default() }).await
    }

    /// The variable that tells `peers.trace` in Python where to add its lines.
    pub(crate) fn trace_file(&self) -> (String, String) {
        ("TRACE_FILE".to_owned(), self.place.path().join("trace").display().to_string())
    }

    /// The lines of `peers.trace`.
    pub(crate) fn traces(&self) -> Vec<u64> {
        trace_lines(&self.place.traces())
    }

    /// Has Python send a task.
    pub(crate) async fn send(&self, name: &str, args: Json) -> String {
        self.client.send(name, args, json!({}), json!({})).await
    }

    /// Has Python send a task and wait for its result.
    pub(crate) async fn call(&self, name: &str, args: Json) -> Result<Json, PythonError> {
        self.client.get(&self.send(name, args).await).await
    }

    /// The result of a task that Python sent, for Rust to read.
    pub(crate) fn result(&self, id: &str) -> AsyncResult<Value> {
        self.app.result(TaskId::new(id.to_owned()).unwrap())
    }

    /// What Redis answers, as text.
    pub(crate) async fn ask(&self, words: &[&str]) -> String {
        self.server.command(words).await.text()
    }

    /// Waits until Redis answers so.
    pub(crate) async fn until(&self, words: &[&str], wanted: &str) {
        until(&format!("{words:?} is {wanted}"), async || self.ask(words).await == wanted).await;
    }

    /// Waits until no message is anywhere in the queue, nor in anybody's hands.
    pub(crate) async fn is_empty(&self, queue: &str) {
        let lists = ["", "\u{6}\u{16}3", "\u{6}\u{16}6", "\u{6}\u{16}9"].map(|step| format!("{queue}{step}"));
        let parked = format!("_celeriac.parked.{queue}");
        let mut counts = vec![["HLEN", "unacked"], ["ZCARD", "unacked_index"], ["ZCARD", &parked]];
        counts.extend(lists.iter().map(|list| ["LLEN", list.as_str()]));
        // At one moment: a message on its way from one to the other is in neither when they are asked one by one.
        let mut connection = self.server.connect().await.unwrap();
        until(&format!("`{queue}` is empty"), async || {
            connection.command(&["MULTI"]).await.unwrap();
            for count in &counts {
                connection.command(count).await.unwrap();
            }
            connection.command(&["EXEC"]).await.unwrap().texts().iter().all(|count| count == "0")
        })
        .await;
    }
}

pub(crate) fn trace_lines(traces: &Traces) -> Vec<u64> {
    traces.lines("trace").iter().map(|line| line.parse().unwrap()).collect()
}

/// A worker in Rust, in this process.
pub(crate) struct RustWorker {
    pub(crate) handle: ShutdownHandle,
    pub(crate) running: JoinHandle<celeriac::Result<()>>,
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

/// Opens the gate of a step of `peers.steps`.
pub(crate) fn open_step(folder: &Path, step: u64) {
    std::fs::write(folder.join(step.to_string()), "").unwrap();
}

/// Peers in Python who look every second for what nobody has acknowledged for `seconds`.
pub(crate) fn visibility(seconds: u64) -> Json {
    json!({"broker_transport_options": {
        "visibility_timeout": seconds, "unacked_restore_interval": 1, "unacked_restore_throttle": 1,
    }})
}
