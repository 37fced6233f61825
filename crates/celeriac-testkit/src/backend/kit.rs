//! What the behaviours are written with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backend::{Result, ResultBackend, Watch};
use celeriac_core::{ContentType, Payload, StoreResult, TaskId, TaskMeta, TaskState};
use tokio::time::timeout;

use super::BackendHarness;

/// The result backend under test, and what the behaviours do with it.
pub struct BackendKit {
    pub(super) backend: Arc<dyn ResultBackend>,
    harness: Arc<dyn BackendHarness>,
    name: &'static str,
}

impl fmt::Debug for BackendKit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendKit").field("backend", &self.backend).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Stores records, as the worker does to whom the backend's `reply_to` was sent.
#[derive(Clone)]
pub(super) struct Storer {
    backend: Arc<dyn ResultBackend>,
    patience: Duration,
}

impl Storer {
    /// Stores. Where results are messages they may be on their way still.
    pub(super) async fn send(&self, mut batch: Vec<StoreResult>) -> Result<()> {
        for result in &mut batch {
            result.reply_to = self.backend.reply_to();
        }
        self.backend.store(batch).await
    }

    /// Stores, so that it can be fetched.
    pub(super) async fn store(&self, batch: Vec<StoreResult>) {
        self.send(batch).await.expect("an open backend stores, and a write that may not happen is no error");
        self.arrived().await;
    }

    /// Waits until all that was stored can be fetched. Messages come in the order in which they were stored, so another one is sent after them.
    pub(super) async fn arrived(&self) {
        if self.backend.capabilities().shared {
            return;
        }
        let id = TaskId::random();
        let last = StoreResult::new(record(&id, TaskState::Success, "the last one"));
        self.send(vec![last]).await.expect("an open backend stores");
        let mut watch = self.backend.watch(&id).await.expect("an open backend watches");
        let came = timeout(self.patience, watch.next()).await;
        came.expect("what was stored arrives").expect("a watch of an open backend yields records");
        self.backend.forget(&[id]).await.expect("a record is forgotten");
    }
}

/// A record of `id` whose result is this text.
pub(super) fn record(id: &TaskId, state: TaskState, data: impl Into<String>) -> TaskMeta {
    let payload = Payload { content_type: ContentType::JSON, data: data.into().into() };
    TaskMeta::new(id.clone(), state).with_result(payload)
}

/// The record's result as text.
pub(super) fn data(meta: &TaskMeta) -> String {
    meta.result.as_ref().map(|payload| String::from_utf8_lossy(&payload.data).into_owned()).unwrap_or_default()
}

impl BackendKit {
    pub(super) async fn open(harness: Arc<dyn BackendHarness>, name: &'static str) -> Self {
        Self { backend: harness.open().await, harness, name }
    }

    /// Another handle on the same store; says that the behaviour is skipped if there is none.
    pub(super) async fn reopen(&self) -> Option<Arc<dyn ResultBackend>> {
        let handle = self.harness.reopen().await;
        if handle.is_none() {
            crate::suite::skipped("backend", self.name, "a second handle, from `BackendHarness::reopen`");
        }
        handle
    }

    pub(super) async fn pass(&self, time: Duration) {
        self.harness.pass(time).await;
    }

    pub(super) fn patience(&self) -> Duration {
        self.harness.patience()
    }

    pub(super) fn quiet(&self) -> Duration {
        self.harness.quiet()
    }

    pub(super) fn storer(&self) -> Storer {
        Storer { backend: Arc::clone(&self.backend), patience: self.patience() }
    }

    /// Stores one record for ever, so that it can be fetched.
    pub(super) async fn store(&self, meta: TaskMeta) {
        self.store_all(vec![StoreResult::new(meta)]).await;
    }

    /// Stores, so that it can be fetched.
    pub(super) async fn store_all(&self, batch: Vec<StoreResult>) {
        self.storer().store(batch).await;
    }

    /// The record of `id`, if any.
    pub(super) async fn fetch(&self, id: &TaskId) -> Option<TaskMeta> {
        let mut found = self.backend.fetch(std::slice::from_ref(id)).await.expect("an open backend fetches");
        assert_eq!(found.len(), 1, "`fetch` answers for each id once");
        found.pop().flatten()
    }

    pub(super) async fn watch(&self, id: &TaskId) -> Box<dyn Watch> {
        self.backend.watch(id).await.expect("an open backend watches")
    }

    /// The watch's next record, for as long as patience lasts.
    pub(super) async fn next(&self, watch: &mut Box<dyn Watch>) -> TaskMeta {
        let next = timeout(self.patience(), watch.next()).await;
        let next = next.unwrap_or_else(|_| panic!("the watch yielded nothing within {:?}", self.patience()));
        next.expect("a watch of an open backend yields records")
    }

    /// Watches until a final record comes.
    pub(super) async fn end(&self, watch: &mut Box<dyn Watch>) -> TaskMeta {
        loop {
            let meta = self.next(watch).await;
            if meta.state.is_ready() {
                return meta;
            }
        }
    }

    /// Sees to it that the watch yields nothing.
    pub(super) async fn nothing(&self, watch: &mut Box<dyn Watch>, why: &str) {
        if let Ok(next) = timeout(self.quiet(), watch.next()).await {
            panic!("the watch was to yield nothing ({why}), but this came: {next:?}");
        }
    }
}
