//! The schedule's half.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use celeriac_core::{EntryName, Error, ErrorKind, Result, StoreId};
use celeriac_schedule::{
    Advance, Changes, Condition, Lead, Put, Revision, ScheduleCapabilities, ScheduleStore, Step, StoredEntry, Term,
};
use tokio::sync::watch;

use crate::entries::{self, Next};
use crate::error::closed;
use crate::news::Mark;
use crate::store::{Half, Inner};
use crate::wake::Watching;
use crate::writer::Call;

/// What every store of schedules keeps of one entry at least, however small messages may be.
const LEAST_MOST_BYTES: usize = 1024 * 1024;

pub(crate) struct SqliteSchedule {
    inner: Arc<Inner>,
    /// From the first wait on: has the writer look once a second for what no socket told, also between two calls of `changed`. Most programs never wait.
    awaiting: OnceLock<watch::Receiver<Mark>>,
}

impl SqliteSchedule {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, awaiting: OnceLock::new() }
    }

    fn check_open(&self, operation: &'static str) -> Result<()> {
        self.inner.check_open(Half::Schedule, operation)
    }

    fn check_size(&self, operation: &'static str, name: &EntryName, bytes: &Bytes) -> Result<()> {
        let (size, max) = (bytes.len(), self.inner.shared.config.max_message_bytes.max(LEAST_MOST_BYTES));
        if size <= max {
            return Ok(());
        }
        let why = format!("entry `{name}` has {size} bytes and is over the limit of {max}");
        Err(Error::new(ErrorKind::TooLarge, operation, why))
    }
}

impl std::fmt::Debug for SqliteSchedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SqliteSchedule").field(&self.inner.shared.place.path).finish()
    }
}

#[async_trait]
impl ScheduleStore for SqliteSchedule {
    fn capabilities(&self) -> ScheduleCapabilities {
        let mut capabilities = ScheduleCapabilities::none();
        capabilities.durable = true;
        capabilities.publishes = true;
        capabilities.shared = true;
        capabilities
    }

    fn store_id(&self) -> Option<StoreId> {
        Some(self.inner.id.clone())
    }

    async fn put(&self, name: &EntryName, definition: Bytes, condition: Condition) -> Result<Put> {
        self.check_open("put entry")?;
        self.check_size("put entry", name, &definition)?;
        let (name, weight) = (name.clone(), 1 + definition.len() / 4096);
        let (job, answer) = Call::new("put entry", move |txn| txn.put_entry(&name, &definition, condition));
        self.inner.call("put entry", (job.weighing(weight), answer)).await
    }

    async fn remove(&self, name: &EntryName) -> Result<bool> {
        self.check_open("remove entry")?;
        let name = name.clone();
        self.inner.call("remove entry", Call::new("remove entry", move |txn| txn.remove_entry(&name))).await
    }

    async fn get(&self, name: &EntryName) -> Result<Option<StoredEntry>> {
        self.check_open("get entry")?;
        let name = name.clone();
        self.inner.read("get entry", move |connection| entries::get(connection, &name)).await
    }

    async fn list(&self, after: Option<&EntryName>, limit: NonZeroUsize) -> Result<Vec<StoredEntry>> {
        self.check_open("list entries")?;
        let after = after.cloned();
        let list = move |connection: &rusqlite::Connection| entries::list(connection, after.as_ref(), limit.get());
        self.inner.read("list entries", list).await
    }

    async fn changes(&self, since: Revision, limit: NonZeroUsize) -> Result<Changes> {
        self.check_open("read changes")?;
        let changes = move |connection: &rusqlite::Connection| entries::changes(connection, since, limit.get());
        self.inner.read("read changes", changes).await
    }

    async fn changed(&self, since: Revision) -> Result<()> {
        let operation = "wait for changes";
        // Listens before it looks, so that nothing is missed in between, nor before others know that this process waits.
        let mut news = self.inner.shared.news.subscribe();
        self.check_open(operation)?;
        self.awaiting.get_or_init(|| self.inner.shared.news.subscribe());
        self.inner.announce(operation, Watching::Schedule).await?;
        let mark = self.inner.read(operation, Mark::read).await?;
        self.inner.shared.news.offer(mark);
        if Revision(mark.revision.cast_unsigned()) <= since {
            // CANCEL SAFETY: nothing is in hand while this waits. It cannot fail, for the store keeps the sender.
            let _ = news.changed().await;
        }
        if self.inner.shared.stopped() { Err(closed(operation)) } else { self.check_open(operation) }
    }

    async fn lead(&self, who: &str, lease: Duration) -> Result<Lead> {
        self.check_open("lead")?;
        let who = who.to_owned();
        self.inner.call("lead", Call::new("lead", move |txn| txn.lead(&who, lease))).await
    }

    async fn resign(&self, term: Term) -> Result<()> {
        self.check_open("resign")?;
        self.inner.call("resign", Call::new("resign", move |txn| txn.resign(term))).await
    }

    async fn advance(&self, term: Term, steps: Vec<Step>) -> Result<Advance> {
        self.check_open("advance")?;
        steps.iter().try_for_each(|step| self.check_size("advance", &step.name, &step.state))?;
        let max_bytes = self.inner.shared.config.max_message_bytes;
        let steps: Vec<Next> = steps.into_iter().map(|step| Next::new(step, max_bytes)).collect();
        let weight = 1 + steps.iter().map(Next::weight).sum::<usize>();
        let (job, answer) = Call::new("advance", move |txn| txn.advance(term, steps));
        self.inner.call("advance", (job.weighing(weight), answer)).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close(Half::Schedule).await
    }
}
