//! The result backend half.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use celeriac_backend::{BackendCapabilities, ResultBackend, Watch};
use celeriac_core::{Result, StoreId, StoreResult, TaskId, TaskMeta};
use deadpool_redis::redis::{self, Cmd, cmd};

use crate::entries::Entries;
use crate::error::unexpected;
use crate::link::Link;
use crate::store::{Half, Inner, Shared};
use crate::wire::meta;

/// The most records of one command: the server serves nobody else meanwhile.
pub(crate) const MOST: usize = 512;

pub(crate) struct RedisBackend {
    inner: Arc<Inner>,
}

impl RedisBackend {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }
}

impl Shared {
    /// The records of `ids`, no more than [`MOST`], as they are stored.
    ///
    /// # Errors
    /// A key of another type is refused where one record is asked for. Among many it counts as missing, for that is what `MGET` makes
    /// of it: to look at the type of each that is missing would cost every caller who is merely early. To store there is refused.
    pub(crate) async fn stored(
        &self,
        link: &Link,
        operation: &'static str,
        ids: &[TaskId],
    ) -> Result<Vec<Option<Bytes>>> {
        let records: Vec<Option<Vec<u8>>> = match ids {
            [] => return Ok(Vec::new()),
            [id] => {
                let answer = link.query(operation, cmd("GET").arg(self.keys.record(id))).await?;
                vec![redis::from_redis_value(answer).map_err(|error| unexpected(operation, error))?]
            }
            ids => {
                let answer = link.query(operation, &self.with_records("MGET", ids)).await?;
                redis::from_redis_value(answer).map_err(|error| unexpected(operation, error))?
            }
        };
        if records.len() != ids.len() {
            return Err(unexpected(operation, format!("{} records for {} ids", records.len(), ids.len())));
        }
        Ok(records.into_iter().map(|record| record.map(Bytes::from)).collect())
    }

    /// A command whose arguments are the keys of records.
    fn with_records(&self, command: &str, ids: &[TaskId]) -> Cmd {
        let mut command = cmd(command);
        for id in ids {
            command.arg(self.keys.record(id));
        }
        command
    }
}

impl std::fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RedisBackend").field(&self.inner.shared.id.0).finish()
    }
}

#[async_trait]
impl ResultBackend for RedisBackend {
    fn capabilities(&self) -> BackendCapabilities {
        let mut capabilities = BackendCapabilities::none();
        capabilities.durable = true;
        capabilities.shared = true;
        capabilities
    }

    fn store_id(&self) -> Option<StoreId> {
        Some(self.inner.shared.id.clone())
    }

    async fn store(&self, batch: Vec<StoreResult>) -> Result<()> {
        const STORE: &str = "store";
        self.inner.check_open(Half::Backend, STORE)?;
        let (shared, link) = (&self.inner.shared, &self.inner.link);
        let mut entries = Entries::default();
        for result in &batch {
            entries.put(|args| shared.record(STORE, result, args))?;
            if entries.is_full() {
                std::mem::take(&mut entries).carry_out_in_the_end(shared, link, STORE).await?.complete()?;
            }
        }
        entries.carry_out_in_the_end(shared, link, STORE).await?.complete()
    }

    async fn fetch(&self, ids: &[TaskId]) -> Result<Vec<Option<TaskMeta>>> {
        const FETCH: &str = "fetch";
        self.inner.check_open(Half::Backend, FETCH)?;
        let shared = &self.inner.shared;
        let mut records = Vec::with_capacity(ids.len());
        for ids in ids.chunks(MOST) {
            let stored = shared.stored(&self.inner.link, FETCH, ids).await?;
            for (id, record) in ids.iter().zip(stored) {
                let read = |record: Bytes| meta::decode(Some(id), &record, shared.config.max_message_bytes);
                records.push(record.map(read).transpose()?);
            }
        }
        Ok(records)
    }

    async fn watch(&self, id: &TaskId) -> Result<Box<dyn Watch>> {
        Ok(Box::new(self.inner.watches.watch(id).await?))
    }

    async fn forget(&self, ids: &[TaskId]) -> Result<()> {
        const FORGET: &str = "forget";
        self.inner.check_open(Half::Backend, FORGET)?;
        for ids in ids.chunks(MOST) {
            let looks = self.inner.watches.look(ids);
            self.inner.link.query(FORGET, &self.inner.shared.with_records("DEL", ids)).await?;
            // Unless something was stored meanwhile.
            looks.into_iter().for_each(|look| look.found(None));
        }
        Ok(())
    }

    async fn sweep(&self) -> Result<u64> {
        self.inner.check_open(Half::Backend, "sweep")?;
        // Redis deletes by itself what has expired.
        Ok(0)
    }

    async fn close(&self) -> Result<()> {
        self.inner.close(Half::Backend).await
    }
}
