//! What a leader knows of the entries, in the order in which they are due.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use celeriac_core::{EntryName, Result, Timestamp};
use celeriac_schedule::{Revision, Step, StoredEntry};

use crate::due::{Due, SET_BACK, due};
use crate::entry::Entry;
use crate::record::{Definition, State};

/// An entry that can be read.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) entry: Arc<Entry>,
    pub(crate) since: Timestamp,
    pub(crate) state: State,
    /// The times until here have been seen to.
    pub(crate) anchor: Timestamp,
    /// How often in a row its tick could not be sent.
    pub(crate) failures: u32,
    revision: Revision,
    steps: u64,
    /// Its place in the order.
    at: Option<Timestamp>,
}

impl Live {
    fn read(stored: &StoredEntry, now: Timestamp) -> Result<Self> {
        let Definition { entry, since, .. } = Definition::read(&stored.name, &stored.definition)?;
        let state = State::read(&stored.name, stored.state.as_deref())?;
        let anchor = state.last.map_or(since, |last| last.max(since));
        let (revision, steps) = (stored.revision, stored.steps);
        let mut live = Self { entry: Arc::new(entry), since, state, anchor, failures: 0, revision, steps, at: None };
        live.forget_future(now);
        Ok(live)
    }

    /// A time far ahead was seen by a clock that was wrong. One that is a little ahead is kept: no tick comes twice when a clock is set right.
    fn forget_future(&mut self, now: Timestamp) {
        if self.anchor.since(now) > SET_BACK {
            self.anchor = now;
        }
    }

    pub(crate) fn due(&self, now: Timestamp, limit: usize) -> Due {
        due(&self.entry, self.since, self.anchor, now, limit)
    }

    /// The step that leaves `state`.
    pub(crate) fn step(&self, state: &State) -> Result<Step> {
        Ok(Step::new(self.entry.name.clone(), self.revision, self.steps, state.write()?))
    }

    /// Notes that the step was taken.
    pub(crate) fn stepped(&mut self, state: State) {
        self.steps += 1;
        self.failures = 0;
        // A tick from before the entry was changed is no reason to go back behind that.
        self.anchor = state.last.map_or(self.anchor, |last| last.max(self.anchor));
        self.state = state;
    }
}

/// All entries.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    entries: HashMap<EntryName, Live>,
    order: BTreeSet<(Timestamp, EntryName)>,
    /// What the clock showed at last.
    seen: Option<Timestamp>,
}

impl Plan {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes up what is stored. An entry that cannot be read is told, and left out.
    pub(crate) fn put(&mut self, stored: &StoredEntry, now: Timestamp) {
        self.remove(&stored.name);
        match Live::read(stored, now) {
            Ok(live) => {
                let next = live.due(now, 1);
                self.entries.insert(stored.name.clone(), live);
                self.place(
                    &stored.name,
                    match next {
                        Due::Not(next) => next,
                        Due::Now { .. } => Some(now),
                    },
                );
            }
            Err(error) => tracing::error!(entry = %stored.name, error = error.report(), "entry is left out"),
        }
    }

    pub(crate) fn remove(&mut self, name: &EntryName) {
        self.place(name, None);
        self.entries.remove(name);
    }

    pub(crate) fn get(&mut self, name: &EntryName) -> Option<&mut Live> {
        self.entries.get_mut(name)
    }

    /// Looks at the entry again at that instant; never if there is none.
    pub(crate) fn place(&mut self, name: &EntryName, at: Option<Timestamp>) {
        let Some(live) = self.entries.get_mut(name) else { return };
        if let Some(before) = live.at {
            self.order.remove(&(before, name.clone()));
        }
        live.at = at;
        if let Some(at) = at {
            self.order.insert((at, name.clone()));
        }
    }

    /// When the next entry is due.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Up to `limit` entries that are due at `now`. They keep their place.
    pub(crate) fn due(&self, now: Timestamp, limit: usize) -> Vec<EntryName> {
        self.order.iter().take_while(|(at, _)| *at <= now).take(limit).map(|(_, name)| name.clone()).collect()
    }

    /// Looks at the clock: if it was set back by much, what was planned by it is planned again.
    pub(crate) fn look(&mut self, now: Timestamp) {
        let before = self.seen.replace(now);
        if before.is_none_or(|before| before.since(now) <= SET_BACK) {
            return;
        }
        tracing::warn!(%now, before = before.map(|before| before.to_string()), "the clock was set back");
        let names: Vec<EntryName> = self.entries.keys().cloned().collect();
        for name in names {
            let Some(live) = self.entries.get_mut(&name) else { continue };
            live.forget_future(now);
            let at = match live.due(now, 1) {
                Due::Not(next) => next,
                Due::Now { .. } => Some(now),
            };
            self.place(&name, at);
        }
    }
}
