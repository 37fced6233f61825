//! The result backend by messages, Celery's `rpc://`: a worker sends the records of a task to the queue that the task names, and who sent the
//! task consumes that queue.

mod message;
mod records;
mod replies;

use std::sync::Arc;

use async_trait::async_trait;
use celeriac_backend::{BackendCapabilities, ResultBackend, Watch};
use celeriac_core::{Result, RoutingKey, StoreResult, TaskId, TaskMeta};
use tokio::time::Instant;

pub(crate) use self::replies::Replies;
use crate::store::{Half, Inner};

pub(crate) struct AmqpBackend {
    inner: Arc<Inner>,
}

impl AmqpBackend {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }
}

impl std::fmt::Debug for AmqpBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AmqpBackend").field(&self.inner.config.shown()).finish()
    }
}

#[async_trait]
impl ResultBackend for AmqpBackend {
    fn capabilities(&self) -> BackendCapabilities {
        // What came is this handle's alone, and gone with it.
        BackendCapabilities::none()
    }

    fn reply_to(&self) -> Option<RoutingKey> {
        Some(self.inner.replies.queue().clone())
    }

    async fn store(&self, batch: Vec<StoreResult>) -> Result<()> {
        const STORE: &str = "store";
        self.inner.check_open(Half::Backend, STORE)?;
        let mut replies = Vec::with_capacity(batch.len());
        for result in &batch {
            replies.extend(message::reply(STORE, result, self.inner.config.max_message_bytes)?);
        }
        if replies.iter().any(|(queue, ..)| queue == self.inner.replies.queue()) {
            self.inner.replies.ready(STORE).await?;
        }
        if replies.is_empty() { Ok(()) } else { self.inner.publisher.reply(replies).await }
    }

    async fn fetch(&self, ids: &[TaskId]) -> Result<Vec<Option<TaskMeta>>> {
        const FETCH: &str = "fetch";
        self.inner.check_open(Half::Backend, FETCH)?;
        self.inner.replies.ready(FETCH).await?;
        Ok(self.inner.replies.records().fetch(ids, Instant::now()))
    }

    async fn watch(&self, id: &TaskId) -> Result<Box<dyn Watch>> {
        self.inner.replies.ready(records::WATCH).await?;
        Ok(Box::new(self.inner.replies.records().watch(id, Instant::now())?))
    }

    async fn forget(&self, ids: &[TaskId]) -> Result<()> {
        self.inner.check_open(Half::Backend, "forget")?;
        self.inner.replies.records().forget(ids);
        Ok(())
    }

    async fn sweep(&self) -> Result<u64> {
        self.inner.check_open(Half::Backend, "sweep")?;
        Ok(self.inner.replies.records().sweep(Instant::now()))
    }

    async fn close(&self) -> Result<()> {
        self.inner.close(Half::Backend).await
    }
}
