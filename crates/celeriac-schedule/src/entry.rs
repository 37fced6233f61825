//! What a store keeps, and how it tells what has changed.

use std::fmt;

use bytes::Bytes;
use celeriac_core::EntryName;

/// Numbers the changes of all definitions of a store: each gets the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl Revision {
    /// Before every change.
    pub const START: Self = Self(0);
}

/// An entry as a store keeps it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredEntry {
    /// The name.
    pub name: EntryName,
    /// What is to be done, and when: any bytes.
    pub definition: Bytes,
    /// When the definition was last changed.
    pub revision: Revision,
    /// What has been done: any bytes, as the latest step left them; `None` before the first. A change of the definition leaves it.
    pub state: Option<Bytes>,
    /// How many steps have been taken. A change of the definition leaves it.
    pub steps: u64,
}

impl fmt::Debug for StoredEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The arguments of a task are in its definition, and may be secret.
        f.debug_struct("StoredEntry")
            .field("name", &self.name)
            .field("revision", &self.revision)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

impl StoredEntry {
    /// An entry without a state.
    #[must_use]
    pub fn new(name: EntryName, definition: impl Into<Bytes>, revision: Revision) -> Self {
        Self { name, definition: definition.into(), revision, state: None, steps: 0 }
    }

    /// Sets the state, as that many steps left it.
    #[must_use]
    pub fn with_state(mut self, state: Option<Bytes>, steps: u64) -> Self {
        self.state = state;
        self.steps = steps;
        self
    }
}

/// When a definition may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    Always,
    /// If there is no entry of that name.
    Absent,
    /// If the entry is there, with this revision.
    At(Revision),
}

impl Condition {
    /// Whether it holds for an entry with this revision; `None` if there is no entry.
    #[must_use]
    pub fn holds(self, present: Option<Revision>) -> bool {
        match self {
            Self::Always => true,
            Self::Absent => present.is_none(),
            Self::At(expected) => present == Some(expected),
        }
    }
}

/// What became of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is kept, with this revision.
    Done(Revision),
    /// The condition does not hold: nothing was written. The revision that the entry has, if there is one.
    Unmet(Option<Revision>),
}

/// One entry that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is there, with a definition of its own revision.
    Put(StoredEntry),
    /// It was removed.
    Removed(EntryName),
}

/// What has changed since a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// This has, in the order of revisions.
    Known {
        /// Each entry once, as it is now.
        changes: Vec<Change>,
        /// Where to ask on from.
        until: Revision,
        /// Whether there is more to come from there.
        more: bool,
    },
    /// The store does not remember. All entries have to be [listed](crate::ScheduleStore::list) again.
    Unknown {
        /// Where to ask on from: whatever changes while they are listed comes behind it.
        until: Revision,
    },
}
