//! What the tests beside Python's Celery share, whatever the broker: an app in Rust, a client in Python, and workers of both kinds.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use celeriac::{
    App, AppBuilder, AsyncResult, ResultError, ShutdownHandle, Signature, TaskFailure, TaskId, Value, WorkerSetup,
};
use celeriac_testkit::server::Process;
use celeriac_tests::Place;
use celeriac_tests::python::{Pool, PythonBeat, PythonClient, PythonError, PythonOptions, PythonWorker};
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;

use crate::tasks::{self, Gate};

/// Long enough for whatever must happen, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An app in Rust and a client in Python, which share queues. No worker yet.
pub(crate) struct Pair {
    pub(crate) app: App,
    pub(crate) client: PythonClient,
    /// Where tasks in Rust wait.
    pub(crate) gate: Gate,
    /// Where tasks of both leave traces.
    pub(crate) place: Place,
    broker: String,
    backend: String,
}

impl Pair {
    /// On a broker and a result backend, by the URLs that Python takes, with settings of the client's app. The app in Rust has the broker's
    /// URL with `options` behind it, and what else `more` says.
    pub(crate) async fn new(
        (broker, backend): (String, String),
        settings: &Json,
        options: &str,
        more: impl FnOnce(AppBuilder) -> AppBuilder,
    ) -> Self {
        let client = PythonClient::start(&broker, &backend, settings);
        let (place, gate) = (Place::new(), Gate::default());
        let builder = tasks::app(&format!("{broker}{options}"), &place.traces(), &gate);
        let app = more(builder).build().await.unwrap();
        Self { app, client, gate, place, broker, backend }
    }

    /// Starts a worker in Rust, in this process.
    pub(crate) async fn rust(&self) -> RustWorker {
        RustWorker::start(self.app.worker().concurrency(4)).await
    }

    /// Starts a worker in Rust, in a process of its own; it knows `peers.trace`, which takes so many seconds.
    pub(crate) fn actor(&self, options: &str, concurrency: usize, seconds: f64) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_actor"));
        let url = format!("{}{options}", self.broker);
        command
            .args([&url, &self.place.path().display().to_string(), &concurrency.to_string()])
            .env("TRACE_SLEEP", seconds.to_string());
        if self.backend != self.broker && self.backend != "rpc://" {
            command.arg(&self.backend);
        }
        Process::start(command, self.place.path()).unwrap()
    }

    /// Starts a worker in Python.
    pub(crate) async fn python(&self, options: PythonOptions) -> PythonWorker {
        PythonWorker::start(&self.broker, &self.backend, options).await
    }

    /// As [`Pair::python`]: its tasks run one after another, and `peers.trace` adds to the same file as in Rust.
    pub(crate) async fn solo(&self, settings: Json) -> PythonWorker {
        let env = vec![self.trace_file()];
        self.python(PythonOptions { pool: Pool::Solo, settings, env, ..PythonOptions::default() }).await
    }

    /// Starts Celery's beat with these entries. It goes on where the one before has left off.
    pub(crate) async fn celerys_beat(&self, entries: &Json) -> PythonBeat {
        let settings = json!({"beat_schedule": entries});
        PythonBeat::start(&self.broker, &self.backend, &settings, &self.place.path().join("celerybeat-schedule")).await
    }

    /// Another client in Python.
    pub(crate) fn other_client(&self, settings: &Json) -> PythonClient {
        PythonClient::start(&self.broker, &self.backend, settings)
    }

    /// The variable that tells `peers.trace` in Python where to add its lines.
    pub(crate) fn trace_file(&self) -> (String, String) {
        ("TRACE_FILE".to_owned(), self.place.path().join("trace").display().to_string())
    }

    /// The lines of `peers.trace`.
    pub(crate) fn traces(&self) -> Vec<u64> {
        self.place.traces().lines("trace").iter().map(|line| line.parse().unwrap()).collect()
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

    /// The result of a task that Python sent, for Rust to read.
    pub(crate) fn result(&self, id: &str) -> AsyncResult<Value> {
        self.app.result(TaskId::new(id.to_owned()).unwrap())
    }
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
