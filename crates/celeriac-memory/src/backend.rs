//! `ResultBackend` and `Watch` for the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use celeriac_backend::{BackendCapabilities, ResultBackend, Watch};
use celeriac_core::{Error, ErrorKind, Result, StoreId, StoreResult, TaskId, TaskMeta};
use tokio::sync::Notify;

use crate::store::{Handle, MemoryStore, Shared};

#[async_trait]
impl ResultBackend for MemoryStore {
    fn capabilities(&self) -> BackendCapabilities {
        let mut capabilities = BackendCapabilities::none();
        capabilities.shared = true;
        capabilities
    }

    fn store_id(&self) -> Option<StoreId> {
        Some(self.handle.shared.id.clone())
    }

    async fn store(&self, batch: Vec<StoreResult>) -> Result<()> {
        let shared = &self.handle.shared;
        batch.iter().try_for_each(|result| shared.check_result(result))?;
        let now = shared.now();
        self.handle.with_backend("store result", |state, after| {
            batch.into_iter().for_each(|result| state.results.store(result, now, after));
        })
    }

    async fn fetch(&self, ids: &[TaskId]) -> Result<Vec<Option<TaskMeta>>> {
        let now = self.handle.shared.now();
        let found: Vec<Option<Arc<TaskMeta>>> = self.handle.with_backend("fetch result", |state, _| {
            ids.iter().map(|id| state.results.get(id, now).cloned()).collect()
        })?;
        Ok(found.into_iter().map(|meta| meta.map(Arc::unwrap_or_clone)).collect())
    }

    async fn watch(&self, id: &TaskId) -> Result<Box<dyn Watch>> {
        let now = self.handle.shared.now();
        let (watch, notify) = self.handle.with_backend("watch result", |state, _| {
            let watch = state.fresh_id();
            (watch, state.results.watch(id, watch, self.handle.id, now))
        })?;
        Ok(Box::new(MemoryWatch { handle: Arc::clone(&self.handle), id: id.clone(), watch, notify }))
    }

    async fn forget(&self, ids: &[TaskId]) -> Result<()> {
        self.handle.with_backend("forget result", |state, _| ids.iter().for_each(|id| state.results.forget(id)))
    }

    async fn sweep(&self) -> Result<u64> {
        let now = self.handle.shared.now();
        self.handle.with_backend("sweep results", |state, _| state.results.sweep(now, usize::MAX) as u64)
    }

    async fn close(&self) -> Result<()> {
        self.handle.shared.with(|state, after| {
            if !self.handle.backend_closed.swap(true, Ordering::Relaxed) {
                state.results.wake_watchers(self.handle.id, after);
            }
        });
        Ok(())
    }
}

impl Shared {
    /// Refuses a result that is over the limit.
    pub(crate) fn check_result(&self, result: &StoreResult) -> Result<()> {
        let size = result.meta.result.as_ref().map_or(0, |payload| payload.data.len());
        let max = self.config.max_message_bytes;
        if size <= max {
            return Ok(());
        }
        let message = format!("the result of task `{}` has {size} bytes, and the limit is {max}", result.meta.task_id);
        Err(Error::new(ErrorKind::TooLarge, "store result", message))
    }
}

#[derive(Debug)]
struct MemoryWatch {
    handle: Arc<Handle>,
    id: TaskId,
    watch: u64,
    notify: Arc<Notify>,
}

#[async_trait]
impl Watch for MemoryWatch {
    async fn next(&mut self) -> Result<TaskMeta> {
        loop {
            let now = self.handle.shared.now();
            let pending = self
                .handle
                .with_backend("watch result", |state, _| state.results.take_pending(&self.id, self.watch, now))?;
            if let Some(meta) = pending {
                return Ok(Arc::unwrap_or_clone(meta));
            }
            // CANCEL SAFETY: the record stays pending, and the notification is kept, until the lines above run.
            self.notify.notified().await;
        }
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.handle.shared.with(|state, _| state.results.unwatch(&self.id, self.watch));
    }
}
