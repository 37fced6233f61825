//! What a handle holds: by number, with what it takes to settle, renew and hand back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use celeriac_core::QueueName;

use crate::wire::envelope::Stamp;

/// What the tags of all our handles begin with: those of kombu are UUIDs.
pub(crate) const OURS: &str = "rs.";

/// A list that messages are taken from.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) queue: QueueName,
    pub(crate) step: u8,
    /// The list's key.
    pub(crate) list: String,
    /// The key of the queue's list of step 0.
    pub(crate) plain: String,
    pub(crate) parked: String,
    /// The end of what is kept of a message in `unacked`: where it goes when it is restored, by whomever. Straight to its queue, for
    /// bindings may have gone or lead to other queues too.
    pub(crate) tail: Vec<u8>,
}

impl Source {
    /// The envelope within what `unacked` has of a message from here.
    pub(crate) fn envelope<'a>(&self, value: &'a [u8]) -> &'a [u8] {
        value.strip_prefix(b"[").and_then(|value| value.strip_suffix(self.tail.as_slice())).unwrap_or(value)
    }
}

/// One message in hand.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) source: Arc<Source>,
    /// Its place among all that were ever taken; that of its first taking if it came back.
    pub(crate) order: u64,
    /// How many times it has been delivered, this one included.
    pub(crate) deliveries: u32,
    /// Why it cannot be read, if so.
    pub(crate) unreadable: Option<Arc<str>>,
    /// When it was asked for, or its lease's renewal the last time: so long the lease lasts at least.
    pub(crate) renewed: Instant,
    /// Whether it is being settled: then it may be gone at any moment.
    pub(crate) settling: bool,
    /// Whether it was given to nobody so far: then it goes back as it was.
    pub(crate) unseen: bool,
}

impl Entry {
    /// The end that the envelope of delivery `number` gets when it goes back unworked, so that it keeps its order; none if it has one, or is
    /// no envelope.
    pub(crate) fn first_stamp(&self, number: u64) -> String {
        // What was stamped before has its first number as its order.
        if self.order != number || self.unreadable.is_some() {
            return String::new();
        }
        Stamp { order: self.order, deliveries: self.deliveries.saturating_sub(1) }.ending()
    }
}

/// The deliveries that one handle holds.
#[derive(Debug)]
pub(crate) struct Held {
    /// What its tags begin with.
    prefix: String,
    entries: Mutex<HashMap<u64, Entry>>,
}

impl Held {
    pub(crate) fn new(owner: &str) -> Self {
        Self { prefix: format!("{OURS}{owner}."), entries: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        // A panic in between leaves the map as it was or as it should be.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tag of a delivery, a field in `unacked`.
    pub(crate) fn tag(&self, number: u64) -> String {
        format!("{}{number}", self.prefix)
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    fn number(&self, tag: &[u8]) -> Option<u64> {
        std::str::from_utf8(tag).ok()?.strip_prefix(&self.prefix)?.parse().ok()
    }

    pub(crate) fn insert(&self, entries: impl IntoIterator<Item = (u64, Entry)>) {
        self.lock().extend(entries);
    }

    /// Marks deliveries as being settled; each with what is held of it, `None` if it is not held.
    pub(crate) fn settling(&self, numbers: impl IntoIterator<Item = u64>) -> Vec<Option<Entry>> {
        let mut entries = self.lock();
        let mark = |number| {
            let entry: &mut Entry = entries.get_mut(&number)?;
            entry.settling = true;
            Some(entry.clone())
        };
        numbers.into_iter().map(mark).collect()
    }

    /// Marks deliveries as given to somebody.
    pub(crate) fn give(&self, numbers: &[u64]) {
        let mut entries = self.lock();
        for number in numbers {
            if let Some(entry) = entries.get_mut(number) {
                entry.unseen = false;
            }
        }
    }

    /// Deliveries that were not settled after all.
    pub(crate) fn keep(&self, numbers: impl IntoIterator<Item = u64>) {
        let mut entries = self.lock();
        for number in numbers {
            if let Some(entry) = entries.get_mut(&number) {
                entry.settling = false;
            }
        }
    }

    pub(crate) fn remove(&self, numbers: impl IntoIterator<Item = u64>) {
        let mut entries = self.lock();
        for number in numbers {
            entries.remove(&number);
        }
    }

    /// Takes deliveries out, to hand them back.
    pub(crate) fn take(&self, numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, Entry)> {
        let mut entries = self.lock();
        numbers.into_iter().filter_map(|number| entries.remove_entry(&number)).collect()
    }

    /// Whether this is a tag of what is held here.
    pub(crate) fn holds(&self, tag: &str) -> bool {
        self.number(tag.as_bytes()).is_some_and(|number| self.lock().contains_key(&number))
    }

    /// Takes everything out.
    pub(crate) fn take_all(&self) -> Vec<(u64, Entry)> {
        self.lock().drain().collect()
    }

    /// The tags whose lease was last renewed longer ago than `age`.
    pub(crate) fn due_for_renewal(&self, age: Duration) -> Vec<String> {
        let entries = self.lock();
        let old = entries.iter().filter(|(_, entry)| entry.renewed.elapsed() >= age);
        old.map(|(number, _)| self.tag(*number)).collect()
    }

    /// The leases of `renewed` were renewed, at `asked` or a little later, but for `lost`, which are held no more. Returns how many were lost
    /// unawares.
    pub(crate) fn renewed(&self, renewed: &[String], asked: Instant, lost: &[Vec<u8>]) -> usize {
        let mut entries = self.lock();
        for tag in renewed {
            if let Some(entry) = self.number(tag.as_bytes()).and_then(|number| entries.get_mut(&number)) {
                entry.renewed = asked;
            }
        }
        let mut count = 0;
        for number in lost.iter().filter_map(|tag| self.number(tag)) {
            if entries.get(&number).is_some_and(|entry| !entry.settling) {
                entries.remove(&number);
                count += 1;
            }
        }
        count
    }
}
