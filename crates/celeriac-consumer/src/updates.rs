//! Progress and other states of running tasks, on their way to the backend.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use celeriac_backend::ResultBackend;
use celeriac_core::{StoreResult, TaskId};
use tokio::sync::Notify;

/// The newest update of each running task. Bounded by the number of tasks that run.
#[derive(Debug, Default)]
pub(crate) struct UpdateSink {
    pending: Mutex<HashMap<TaskId, StoreResult>>,
    wake: Notify,
}

impl UpdateSink {
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, StoreResult>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, update: StoreResult) {
        self.lock().insert(update.meta.task_id.clone(), update);
        self.wake.notify_one();
    }

    /// Drops the update of a task that has ended.
    pub(crate) fn forget(&self, id: &TaskId) {
        self.lock().remove(id);
    }

    /// Writes updates as they come, in batches, until dropped.
    pub(crate) async fn write(self: Arc<Self>, backend: Arc<dyn ResultBackend>) {
        loop {
            let batch: Vec<StoreResult> = self.lock().drain().map(|(_, update)| update).collect();
            if batch.is_empty() {
                self.wake.notified().await;
            } else if let Err(error) = backend.store(batch).await {
                // An update is news, not a result: the next one will do.
                tracing::warn!(%error, "updates of running tasks could not be stored");
            }
        }
    }
}
