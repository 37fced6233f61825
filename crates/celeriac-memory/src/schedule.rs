//! `ScheduleStore` for the store.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use celeriac_core::{EntryName, Error, ErrorKind, Result, StoreId, Timestamp};
use celeriac_schedule::{
    Advance, Changes, Condition, Lead, Put, Revision, ScheduleCapabilities, ScheduleStore, Step, Stepped, StoredEntry,
    Term,
};

use crate::state::{After, Incoming, State};
use crate::store::{Handle, MemoryStore, Shared};

#[async_trait]
impl ScheduleStore for MemoryStore {
    fn capabilities(&self) -> ScheduleCapabilities {
        let mut capabilities = ScheduleCapabilities::none();
        capabilities.publishes = true;
        capabilities.shared = true;
        capabilities
    }

    fn store_id(&self) -> Option<StoreId> {
        Some(self.handle.shared.id.clone())
    }

    async fn put(&self, name: &EntryName, definition: Bytes, condition: Condition) -> Result<Put> {
        self.handle.shared.check_entry("put entry", name, &definition)?;
        let put =
            self.handle.with_schedule("put entry", |state, _| Ok(state.entries.put(name, definition, condition)))?;
        self.handle.shared.schedule_changed.notify_waiters();
        Ok(put)
    }

    async fn remove(&self, name: &EntryName) -> Result<bool> {
        let removed = self.handle.with_schedule("remove entry", |state, _| Ok(state.entries.remove(name)))?;
        self.handle.shared.schedule_changed.notify_waiters();
        Ok(removed)
    }

    async fn get(&self, name: &EntryName) -> Result<Option<StoredEntry>> {
        self.handle.with_schedule("get entry", |state, _| Ok(state.entries.get(name)))
    }

    async fn list(&self, after: Option<&EntryName>, limit: NonZeroUsize) -> Result<Vec<StoredEntry>> {
        self.handle.with_schedule("list entries", |state, _| Ok(state.entries.list(after, limit.get())))
    }

    async fn changes(&self, since: Revision, limit: NonZeroUsize) -> Result<Changes> {
        self.handle.with_schedule("read changes", |state, _| Ok(state.entries.changes(since, limit.get())))
    }

    async fn changed(&self, since: Revision) -> Result<()> {
        // Listens before it looks, so that nothing is missed in between.
        let changed = self.handle.shared.schedule_changed.notified();
        if !self.handle.with_schedule("wait for changes", |state, _| Ok(state.entries.has_changed(since)))? {
            // CANCEL SAFETY: nothing is in hand while this waits.
            changed.await;
            self.handle.with_schedule("wait for changes", |_, _| Ok(()))?;
        }
        Ok(())
    }

    async fn lead(&self, who: &str, lease: Duration) -> Result<Lead> {
        let now = self.handle.shared.now();
        self.handle.with_schedule("lead", |state, _| Ok(state.entries.lead(who, lease, now)))
    }

    async fn resign(&self, term: Term) -> Result<()> {
        if self.handle.with_schedule("resign", |state, _| Ok(state.entries.resign(term)))? {
            self.handle.shared.schedule_changed.notify_waiters();
        }
        Ok(())
    }

    async fn advance(&self, term: Term, steps: Vec<Step>) -> Result<Advance> {
        let shared = &self.handle.shared;
        steps.iter().try_for_each(|step| shared.check_entry("advance", &step.name, &step.state))?;
        let now = shared.now();
        self.handle.with_schedule("advance", |state, after| {
            if !state.entries.leads(term) {
                return Ok(Advance::Fenced);
            }
            state.expire_queues(now, after);
            Ok(Advance::Stepped(steps.into_iter().map(|step| shared.take(step, state, now, after)).collect()))
        })
    }

    async fn close(&self) -> Result<()> {
        self.handle.shared.with(|_, _| self.handle.schedule_closed.store(true, Ordering::Relaxed));
        self.handle.shared.schedule_changed.notify_waiters();
        Ok(())
    }
}

impl Handle {
    /// As [`Shared::with`], unless the schedule's part is closed.
    fn with_schedule<R>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&mut State, &mut After) -> Result<R>,
    ) -> Result<R> {
        self.shared.with(|state, after| {
            if self.schedule_closed.load(Ordering::Relaxed) {
                return Err(Error::unavailable(operation, "the memory store of schedules is closed"));
            }
            act(state, after)
        })
    }
}

impl Shared {
    fn check_entry(&self, operation: &'static str, name: &EntryName, bytes: &Bytes) -> Result<()> {
        let (size, max) = (bytes.len(), self.config.max_message_bytes);
        if size <= max {
            return Ok(());
        }
        let message = format!("entry `{name}` has {size} bytes, and the limit is {max}");
        Err(Error::new(ErrorKind::TooLarge, operation, message))
    }

    fn take(&self, mut step: Step, state: &mut State, now: Timestamp, after: &mut After) -> Stepped {
        if !state.entries.is_next(&step) {
            return Stepped::Stale;
        }
        let messages = std::mem::take(&mut step.publish);
        let checked = messages.iter().try_for_each(|message| self.check_size(message)).and_then(|()| {
            state.check_routes(
                messages.iter().map(|message| (&message.destination, &message.message.headers)),
                self.config.max_queue_length,
            )
        });
        if let Err(error) = checked {
            return Stepped::Refused(error);
        }
        state.enqueue(messages.into_iter().map(Incoming::from).collect(), now, after);
        state.entries.take(step);
        Stepped::Done
    }
}
