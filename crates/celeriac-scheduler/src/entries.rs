//! `Entries`: what is in a store of schedules, read and changed while schedulers run.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use celeriac_core::{Clock, EntryName, Error, Result, SystemClock, TaskId, Timestamp};
use celeriac_schedule::{Condition, Put, Revision, ScheduleStore, StoredEntry};

use crate::due::{Due, due};
use crate::entry::Entry;
use crate::record::{Definition, State};

/// The entries in a store of schedules. Whoever has one may change them, from any process, while schedulers run: they notice at once.
#[derive(Debug, Clone)]
pub struct Entries {
    store: Arc<dyn ScheduleStore>,
    clock: Arc<dyn Clock>,
}

/// An entry, and what has been done for it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct KnownEntry {
    /// The entry.
    pub entry: Entry,
    /// Nothing was due before: when it was added, its schedule changed, or it was enabled again.
    pub since: Timestamp,
    /// The latest time that was sent or skipped.
    pub last: Option<Timestamp>,
    /// The latest time that was sent.
    pub last_sent: Option<Timestamp>,
    /// The id of the task that was sent then.
    pub last_task: Option<TaskId>,
    /// How many ticks were sent.
    pub count: u64,
    /// When the next tick is to be sent; past, if that was missed. `None` if the entry is not enabled, or never comes again.
    pub next: Option<Timestamp>,
}

impl KnownEntry {
    fn read(stored: &StoredEntry) -> Result<Self> {
        let Definition { entry, since } = Definition::read(&stored.name, &stored.definition)?;
        let State { last, sent, task, count } = State::read(&stored.name, stored.state.as_deref())?;
        let anchor = last.map_or(since, |last| last.max(since));
        let next = match due(&entry, since, anchor, anchor, 1) {
            Due::Not(next) => next,
            Due::Now { last, .. } => Some(last),
        };
        Ok(Self { entry, since, last, last_sent: sent, last_task: task, count, next })
    }
}

impl Entries {
    /// The entries in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn ScheduleStore>) -> Self {
        Self { store, clock: Arc::new(SystemClock) }
    }

    /// Takes the time from `clock`. Default the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Adds an entry, or changes the one of its name. What was done stays known; times of a new schedule that are past already are not missed ones.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming the field that cannot be; what [`ScheduleStore::put`] returns.
    pub async fn put(&self, entry: &Entry) -> Result<()> {
        self.change(&entry.name, |_| Ok(Some(entry.clone()))).await.map(drop)
    }

    /// Adds an entry, unless there is one of its name, and tells whether it was added.
    ///
    /// # Errors
    /// As [`Entries::put`].
    pub async fn add(&self, entry: &Entry) -> Result<bool> {
        self.change(&entry.name, |known| Ok(known.is_none().then(|| entry.clone()))).await
    }

    /// As [`Entries::put`] for each.
    ///
    /// # Errors
    /// As [`Entries::put`]; [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) if two of them have one name: then none is put.
    pub async fn put_all(&self, entries: &[Entry]) -> Result<()> {
        let mut names = HashSet::new();
        for entry in entries {
            entry.check()?;
            if !names.insert(&entry.name) {
                return Err(Error::config("schedule", format!("entry `{}`: name: two entries have it", entry.name)));
            }
        }
        for entry in entries {
            self.put(entry).await?;
        }
        Ok(())
    }

    /// Sets whether an entry is sent, and tells whether it is there. What becomes due while it is not is never sent.
    ///
    /// # Errors
    /// As [`Entries::get`].
    pub async fn enable(&self, name: &EntryName, enabled: bool) -> Result<bool> {
        let change =
            |known: Option<Result<Definition>>| known.map(|known| Ok(known?.entry.enabled(enabled))).transpose();
        self.change(name, change).await
    }

    /// Removes an entry, with what is known of its runs, and tells whether it was there.
    ///
    /// # Errors
    /// What [`ScheduleStore::remove`] returns.
    pub async fn remove(&self, name: &EntryName) -> Result<bool> {
        self.store.remove(name).await
    }

    /// An entry, if it is there.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](celeriac_core::ErrorKind::Malformed) naming entry and field, if it was written by another version; what
    /// [`ScheduleStore::get`] returns.
    pub async fn get(&self, name: &EntryName) -> Result<Option<KnownEntry>> {
        self.store.get(name).await?.as_ref().map(KnownEntry::read).transpose()
    }

    /// Up to `limit` entries by the order of their names, those behind `after`. An entry that cannot be read is an error in its place.
    ///
    /// # Errors
    /// What [`ScheduleStore::list`] returns.
    pub async fn list(&self, after: Option<&EntryName>, limit: NonZeroUsize) -> Result<Vec<Result<KnownEntry>>> {
        Ok(self.store.list(after, limit).await?.iter().map(KnownEntry::read).collect())
    }

    /// Writes what `change` makes of an entry, unless that is nothing, and tells whether it did. Begins again when another was faster.
    async fn change(
        &self,
        name: &EntryName,
        change: impl Fn(Option<Result<Definition>>) -> Result<Option<Entry>> + Send + Sync,
    ) -> Result<bool> {
        loop {
            let stored = self.store.get(name).await?;
            let known = || stored.as_ref().map(|stored| Definition::read(name, &stored.definition));
            let Some(entry) = change(known())? else { return Ok(false) };
            let since = match known() {
                Some(Ok(known)) if known.entry.schedule == entry.schedule && known.entry.enabled >= entry.enabled => {
                    known.since
                }
                _ => self.clock.now(),
            };
            let condition = stored.as_ref().map_or(Condition::Absent, |stored| Condition::At(stored.revision));
            match self.store.put(name, Definition { entry, since }.write()?, condition).await? {
                Put::Done(Revision(_)) => return Ok(true),
                Put::Unmet(_) => {}
            }
        }
    }
}
