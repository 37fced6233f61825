//! The result backend half.

use std::sync::Arc;

use async_trait::async_trait;
use celeriac_backend::{BackendCapabilities, ResultBackend, Watch};
use celeriac_core::{Result, StoreId, StoreResult, TaskId, TaskMeta};

use crate::record::{self, Record};
use crate::store::{Half, Inner};
use crate::wake::Watching;
use crate::watch::ResultWatch;
use crate::writer::Call;

/// So many expired records are deleted in one transaction.
const SWEEP: i64 = 5000;

pub(crate) struct SqliteBackend {
    inner: Arc<Inner>,
}

impl SqliteBackend {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }
}

impl std::fmt::Debug for SqliteBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SqliteBackend").field(&self.inner.shared.place.path).finish()
    }
}

#[async_trait]
impl ResultBackend for SqliteBackend {
    fn capabilities(&self) -> BackendCapabilities {
        let mut capabilities = BackendCapabilities::none();
        capabilities.durable = true;
        capabilities.shared = true;
        capabilities
    }

    fn store_id(&self) -> Option<StoreId> {
        Some(self.inner.id.clone())
    }

    async fn store(&self, batch: Vec<StoreResult>) -> Result<()> {
        self.inner.check_open(Half::Backend, "store")?;
        let max_bytes = self.inner.shared.config.max_message_bytes;
        let records =
            batch.into_iter().map(|result| Record::new(result, max_bytes)).collect::<Result<Vec<Record>>>()?;
        if records.is_empty() {
            return Ok(());
        }
        let weight = records.iter().map(Record::weight).sum();
        let (job, answer) = Call::new("store", move |txn| {
            records.iter().try_for_each(|record| txn.store(record))?;
            // Dropped here, not by the writer.
            Ok(records)
        });
        self.inner.call("store", (job.weighing(weight), answer)).await.map(drop)
    }

    async fn fetch(&self, ids: &[TaskId]) -> Result<Vec<Option<TaskMeta>>> {
        self.inner.check_open(Half::Backend, "fetch")?;
        let (ids, now) = (ids.to_vec(), self.inner.shared.now());
        let read = move |connection: &rusqlite::Connection| {
            // One transaction, so that all are of the same instant.
            let whole = connection.unchecked_transaction()?;
            let records = ids.iter().map(|id| record::fetch(&whole, id, now)?.map_err(Into::into)).collect();
            whole.finish()?;
            records
        };
        self.inner.read("fetch", read).await
    }

    async fn watch(&self, id: &TaskId) -> Result<Box<dyn Watch>> {
        self.inner.check_open(Half::Backend, "watch")?;
        // In this order, so that no record slips through: what is stored later is announced, what was stored before is read.
        let watch = ResultWatch::new(id, &self.inner.shared);
        self.inner.announce("watch", Watching::Results).await?;
        let (shared, id) = (Arc::clone(&self.inner.shared), id.clone());
        let read = move |connection: &rusqlite::Connection| shared.watches.read(connection, &id, shared.now());
        self.inner.read("watch", read).await?;
        self.inner.check_open(Half::Backend, "watch")?;
        Ok(Box::new(watch))
    }

    async fn forget(&self, ids: &[TaskId]) -> Result<()> {
        self.inner.check_open(Half::Backend, "forget")?;
        let forgotten = ids.to_vec();
        self.inner.call("forget", Call::new("forget", move |txn| txn.forget(&forgotten))).await?;
        ids.iter().for_each(|id| self.inner.shared.watches.forget(id));
        Ok(())
    }

    async fn sweep(&self) -> Result<u64> {
        self.inner.check_open(Half::Backend, "sweep")?;
        let mut total = 0;
        loop {
            // Others may write in between.
            let (count, full) = self.inner.call("sweep", Call::new("sweep", |txn| txn.sweep(SWEEP))).await?;
            total += count;
            if !full {
                return Ok(total);
            }
        }
    }

    async fn close(&self) -> Result<()> {
        self.inner.close(Half::Backend).await
    }
}
