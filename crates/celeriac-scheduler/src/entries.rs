//! `Entries`: what is in a store of schedules, read and changed while schedulers run.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use celeriac_core::{Clock, EntryName, Error, Result, SystemClock, TaskId, Timestamp};
use celeriac_schedule::{Condition, Put, Revision, ScheduleStore, StoredEntry};

use crate::due::{Due, due};
use crate::entry::Entry;
use crate::record::{Definition, State};

/// So many entries are read at once.
pub(crate) const PAGE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

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
        let Definition { entry, since, .. } = Definition::read(&stored.name, &stored.definition)?;
        let State { last, sent, task, count, .. } = State::read(&stored.name, stored.state.as_deref())?;
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
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming entry and field: what cannot be, or why the entry of that name cannot be read, as when
    /// it was written by another version. Such an entry is not written over; it can be [removed](Entries::remove). What [`ScheduleStore::put`] returns.
    pub async fn put(&self, entry: &Entry) -> Result<()> {
        let change = |stored: Option<&StoredEntry>| {
            Ok(Some(self.following(stored.map(replaceable).transpose()?, entry.clone(), None)))
        };
        self.change(&entry.name, change).await.map(drop)
    }

    /// Adds an entry, unless there is one of its name, and tells whether it was added.
    ///
    /// # Errors
    /// As [`Entries::put`].
    pub async fn add(&self, entry: &Entry) -> Result<bool> {
        let change = |stored: Option<&StoredEntry>| match stored {
            Some(stored) => replaceable(stored).map(|_| None),
            None => Ok(Some(self.following(None, entry.clone(), None))),
        };
        self.change(&entry.name, change).await
    }

    /// As [`Entries::put`] for each.
    ///
    /// # Errors
    /// As [`Entries::put`]; [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) if two of them have one name: then none is put.
    pub async fn put_all(&self, entries: &[Entry]) -> Result<()> {
        Self::check(entries)?;
        for entry in entries {
            self.put(entry).await?;
        }
        Ok(())
    }

    /// Brings what `owner` declares in its code into the store: what is new is added, what differs is changed, what `owner` declared before and does
    /// not any more is removed. What is as declared is not written; what has no owner is left alone, unless it has a declared name.
    ///
    /// The code wins, save over whether an entry is [enabled](Entries::enable): what was decided at run time holds until the code decides
    /// otherwise than it did.
    ///
    /// An entry that cannot be read, as one written by a newer version of the program, is told to the log and left as it is, declared or not.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming entry and field, if one cannot be, two have one name, or another owner declares one of
    /// that name: then none is written. What the store returns: then some may be, and it may be called again.
    pub async fn declare(&self, owner: &str, entries: &[Entry]) -> Result<()> {
        Self::check(entries)?;
        let mut known: HashMap<&EntryName, StoredEntry> = HashMap::new();
        let mut vanished = Vec::new();
        let mut after = None;
        let declared: HashSet<&EntryName> = entries.iter().map(|entry| &entry.name).collect();
        loop {
            let page = self.store.list(after.as_ref(), PAGE).await?;
            after = page.last().map(|entry| entry.name.clone());
            let is_last = page.len() < PAGE.get();
            for stored in page {
                if let Some(name) = declared.get(&stored.name) {
                    known.insert(name, stored);
                } else if is_of(owner, &stored) {
                    vanished.push(stored.name);
                }
            }
            if is_last {
                break;
            }
        }
        let mut different = Vec::new();
        for entry in entries {
            let stored = known.get(&entry.name);
            let Some(definition) = self.declared(owner, entry, stored)? else { continue };
            if stored.is_none_or(|stored| definition.write().is_ok_and(|text| text != stored.definition)) {
                different.push(entry);
            }
        }
        let (mut changed, mut removed) = (0, 0);
        for entry in different {
            let declare = |stored: Option<&StoredEntry>| self.declared(owner, entry, stored);
            changed += usize::from(self.change(&entry.name, declare).await?);
        }
        for name in vanished {
            // Somebody may have taken it over meanwhile.
            if self.store.get(&name).await?.is_some_and(|stored| is_of(owner, &stored)) {
                removed += usize::from(self.store.remove(&name).await?);
            }
        }
        tracing::info!(owner, entries = entries.len(), changed, removed, "schedule declared");
        Ok(())
    }

    /// Tells what cannot be of entries that are to be in one store.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming the entry and the field: one that [cannot be](Entry::check), an argument that
    /// cannot be written, a name that two of them have.
    pub fn check(entries: &[Entry]) -> Result<()> {
        let mut names = HashSet::new();
        for entry in entries {
            entry.check()?;
            let wrong =
                |field, what: &str| Error::config("schedule", format!("entry `{}`: {field}: {what}", entry.name));
            let written = Definition { entry: entry.clone(), since: Timestamp::from_micros(0), declared: true }.write();
            written.map_err(|error| wrong("task", error.message()))?;
            if !names.insert(&entry.name) {
                return Err(wrong("name", "two entries have it"));
            }
        }
        Ok(())
    }

    /// Sets whether an entry is sent, and tells whether it is there. What becomes due while it is not is never sent.
    ///
    /// # Errors
    /// As [`Entries::get`]; what [`ScheduleStore::put`] returns.
    pub async fn enable(&self, name: &EntryName, enabled: bool) -> Result<bool> {
        let change = |stored: Option<&StoredEntry>| {
            let Some(known) = stored.map(read).transpose()? else { return Ok(None) };
            let entry = known.entry.clone().enabled(enabled);
            Ok(Some(self.following(Some(known), entry, None)))
        };
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

    /// Up to `limit` entries by the order of their names, those behind `after`, each with its name: one that cannot be read is an error in its place. The last
    /// name is what the next page comes behind; a page of fewer than `limit` is the last.
    ///
    /// # Errors
    /// What [`ScheduleStore::list`] returns.
    pub async fn list(
        &self,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Vec<(EntryName, Result<KnownEntry>)>> {
        let page = self.store.list(after, limit).await?;
        Ok(page.into_iter().map(|stored| (stored.name.clone(), KnownEntry::read(&stored))).collect())
    }

    /// What is written where `stored` was, for `entry` as `owner` declares it. Nothing, if that cannot be read and no other owner is known: another version
    /// of the same program may have written it, and runs.
    fn declared(&self, owner: &str, entry: &Entry, stored: Option<&StoredEntry>) -> Result<Option<Definition>> {
        let others = stored.and_then(|stored| Definition::owner(&stored.definition)).filter(|other| other != owner);
        if let Some(other) = others {
            let message = format!(
                "entry `{}`: name: `{other}` declares an entry of that name; give one of them another, or remove that one",
                entry.name
            );
            return Err(Error::config("schedule", message));
        }
        let known = match stored.map(read).transpose() {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(entry = %entry.name, error = error.report(), "an entry that is declared cannot be read, and is left as it is");
                return Ok(None);
            }
        };
        let mut owned = entry.clone();
        owned.owner = Some(owner.to_owned());
        if let Some(known) = &known {
            match &known.entry.owner {
                Some(_) if known.declared == entry.enabled => owned.enabled = known.entry.enabled,
                Some(_) => {}
                None => owned.enabled &= known.entry.enabled,
            }
        }
        Ok(Some(self.following(known, owned, Some(entry.enabled))))
    }

    /// What is written for `entry` where `known` was. Unless it is `declared` now, what its owner declared stays so.
    fn following(&self, known: Option<Definition>, entry: Entry, declared: Option<bool>) -> Definition {
        let since = match &known {
            Some(known) if known.entry.schedule == entry.schedule && known.entry.enabled >= entry.enabled => {
                known.since
            }
            _ => self.clock.now(),
        };
        let before = known.filter(|known| known.entry.owner == entry.owner).map(|known| known.declared);
        Definition { declared: declared.or(before).unwrap_or(entry.enabled), entry, since }
    }

    /// Writes what `change` makes of an entry, unless that is nothing, and tells whether it is something. Begins again when another was faster.
    async fn change(
        &self,
        name: &EntryName,
        change: impl Fn(Option<&StoredEntry>) -> Result<Option<Definition>> + Send + Sync,
    ) -> Result<bool> {
        loop {
            let stored = self.store.get(name).await?;
            let Some(definition) = change(stored.as_ref())? else { return Ok(false) };
            let condition = stored.as_ref().map_or(Condition::Absent, |stored| Condition::At(stored.revision));
            match self.store.put(name, definition.write()?, condition).await? {
                Put::Done(Revision(_)) => return Ok(true),
                Put::Unmet(_) => {}
            }
        }
    }
}

fn read(stored: &StoredEntry) -> Result<Definition> {
    Definition::read(&stored.name, &stored.definition)
}

/// What is to be written over: not what cannot be read, for another version may know what it means.
fn replaceable(stored: &StoredEntry) -> Result<Definition> {
    read(stored).map_err(|error| Error::config("schedule", format!("{}; remove it first", error.message())))
}

fn is_of(owner: &str, stored: &StoredEntry) -> bool {
    // What cannot be read is nobody's. Most are another's, or nobody's, and need not be read in full.
    Definition::owner(&stored.definition).as_deref() == Some(owner) && read(stored).is_ok()
}
