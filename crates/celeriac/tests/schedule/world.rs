//! One store in memory, its clock, the tasks, and apps over it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac::core::{Clock, EntryName};
use celeriac::memory::MemoryStore;
use celeriac::prelude::*;
use celeriac::scheduler::SchedulerHandle;
use celeriac::{AppBuilder, ShutdownHandle, System, TaskId, Timestamp};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A clock that goes as the runtime's does.
#[derive(Debug)]
struct Wall(Instant);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        "2026-11-22T00:00:00Z".parse::<Timestamp>().unwrap() + self.0.elapsed()
    }
}

/// What ran: what it was told, its id, when it began, and whether it was marked as Celery's beat marks what it sends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    pub(crate) what: String,
    pub(crate) id: TaskId,
    pub(crate) at: String,
    pub(crate) by_beat: bool,
}

#[derive(Clone)]
pub(crate) struct Log {
    clock: Arc<dyn Clock>,
    runs: Arc<Mutex<Vec<Run>>>,
}

impl Log {
    fn add(&self, cx: &TaskContext, what: String) {
        let by_beat = cx.headers().extra.get("celery_beat_task").and_then(celeriac::Value::as_bool) == Some(true);
        assert_eq!(cx.root_id(), cx.id(), "it stands at the root");
        let at = self.clock.now().to_string()[11..19].to_owned();
        self.runs.lock().unwrap().push(Run { what, id: cx.id().clone(), at, by_beat });
    }
}

#[celeriac::task(name = "shop.note")]
pub(crate) async fn note(cx: &TaskContext, log: State<Log>, what: String) {
    log.add(cx, what);
}

/// Takes 25 minutes.
#[celeriac::task(name = "shop.slow")]
pub(crate) async fn slow(cx: &TaskContext, log: State<Log>, what: String) {
    log.add(cx, what);
    tokio::time::sleep(Duration::from_secs(25 * 60)).await; // wait: time is virtual here
}

#[celeriac::task(name = "shop.silent", ignore_result)]
pub(crate) async fn silent() {}

#[celeriac::task(name = "shop.mail", queue = "mail", priority = 7, expires = "10m")]
pub(crate) async fn mail(to: String, subject: String) -> usize {
    to.len() + subject.len()
}

pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) clock: Arc<dyn Clock>,
    log: Log,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(Wall(Instant::now()));
        let store = MemoryStore::with_clock(Arc::clone(&clock));
        let log = Log { clock: Arc::clone(&clock), runs: Arc::default() };
        Self { store, clock, log }
    }

    /// An app named `shop` over the store, with a handle of its own, as a process would have.
    pub(crate) fn app(&self) -> AppBuilder {
        self.app_of("shop").tasks(tasks![note, slow, silent])
    }

    /// An app over the store that registers no tasks.
    pub(crate) fn app_of(&self, name: &str) -> AppBuilder {
        let store = self.store.connect();
        App::builder(name)
            .read_env(false)
            .clock(Arc::clone(&self.clock))
            .state(self.log.clone())
            .scheme("world", move |_| {
                let store = Arc::new(store.clone());
                async move { Ok(System::new().broker(store.clone()).backend(store.clone()).schedule(store)) }
            })
            .broker_url("world://")
    }

    /// What has run since the last call.
    pub(crate) fn runs(&self) -> Vec<Run> {
        std::mem::take(&mut self.log.runs.lock().unwrap())
    }

    /// When what was told that ran, since the last call.
    pub(crate) fn times(&self, what: &str) -> Vec<String> {
        self.runs().into_iter().filter(|run| run.what == what).map(|run| run.at).collect()
    }
}

/// Lets so much time pass.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await; // wait: time is virtual here
}

/// A worker that runs.
pub(crate) struct Working(pub(crate) ShutdownHandle, pub(crate) JoinHandle<celeriac::Result<()>>);

impl Working {
    pub(crate) fn start(app: &App) -> Self {
        Self::of(app.worker())
    }

    pub(crate) fn of(setup: celeriac::WorkerSetup) -> Self {
        let worker = setup.concurrency(2).build().unwrap();
        Self(worker.handle(), tokio::spawn(worker.run()))
    }

    pub(crate) async fn stop(self) {
        self.0.shutdown();
        self.1.await.unwrap().unwrap();
    }
}

/// A beat that runs.
pub(crate) struct Beating(SchedulerHandle, JoinHandle<celeriac::Result<()>>);

impl Beating {
    pub(crate) fn start(app: &App) -> Self {
        let beat = app.beat().build().unwrap();
        Self(beat.handle(), tokio::spawn(beat.run()))
    }

    pub(crate) async fn stop(self) {
        self.0.stop();
        self.1.await.unwrap().unwrap();
    }
}

pub(crate) fn name(name: &str) -> EntryName {
    EntryName::new(name.to_owned()).unwrap()
}
