//! The entries of a schedule and who leads, as the store keeps them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use celeriac_core::{EntryName, Timestamp};
use celeriac_schedule::{Change, Changes, Condition, Lead, Put, Revision, Step, StoredEntry, Term};

/// So many removed entries are remembered.
const REMEMBERED: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Entries {
    entries: BTreeMap<EntryName, StoredEntry>,
    /// The latest change of each entry, and of those removed ones that are remembered.
    changes: BTreeMap<Revision, EntryName>,
    /// The removed ones that are remembered: each has its line in `changes`.
    removed: BTreeMap<EntryName, Revision>,
    /// What was removed until here may be forgotten.
    forgotten: Revision,
    /// The first is kept free, so that those who have read an empty store are not at the start.
    latest: Revision,
    leader: Option<Leader>,
    /// The largest term that was ever given.
    term: u64,
}

#[derive(Debug)]
struct Leader {
    who: String,
    lease: Duration,
    until: Timestamp,
}

impl Default for Entries {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            changes: BTreeMap::new(),
            removed: BTreeMap::new(),
            forgotten: Revision::START,
            latest: Revision(1),
            leader: None,
            term: 0,
        }
    }
}

impl Entries {
    fn fresh_revision(&mut self) -> Revision {
        self.latest.0 += 1;
        self.latest
    }

    pub(crate) fn put(&mut self, name: &EntryName, definition: Bytes, condition: Condition) -> Put {
        let known = self.entries.get(name);
        let revision = known.map(|entry| entry.revision);
        match known {
            _ if !condition.holds(revision) => return Put::Unmet(revision),
            Some(entry) if entry.definition == definition => return Put::Done(entry.revision),
            _ => {}
        }
        let fresh = self.fresh_revision();
        if let Some(revision) = revision.or_else(|| self.removed.remove(name)) {
            self.changes.remove(&revision);
        }
        self.changes.insert(fresh, name.clone());
        let entry =
            self.entries.entry(name.clone()).or_insert_with(|| StoredEntry::new(name.clone(), Bytes::new(), fresh));
        entry.definition = definition;
        entry.revision = fresh;
        Put::Done(fresh)
    }

    pub(crate) fn remove(&mut self, name: &EntryName) -> bool {
        let Some(entry) = self.entries.remove(name) else { return false };
        let fresh = self.fresh_revision();
        self.changes.remove(&entry.revision);
        self.changes.insert(fresh, name.clone());
        self.removed.insert(name.clone(), fresh);
        if self.removed.len() > REMEMBERED {
            self.forget();
        }
        true
    }

    /// Forgets the older half of what was removed.
    fn forget(&mut self) {
        let mut revisions: Vec<Revision> = self.removed.values().copied().collect();
        revisions.sort_unstable();
        revisions.truncate(revisions.len() / 2);
        for revision in revisions {
            if let Some(name) = self.changes.remove(&revision) {
                self.removed.remove(&name);
            }
            self.forgotten = revision;
        }
    }

    pub(crate) fn get(&self, name: &EntryName) -> Option<StoredEntry> {
        self.entries.get(name).cloned()
    }

    pub(crate) fn list(&self, after: Option<&EntryName>, limit: usize) -> Vec<StoredEntry> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.entries.range::<EntryName, _>((start, Bound::Unbounded));
        behind.take(limit).map(|(_, entry)| entry.clone()).collect()
    }

    pub(crate) fn changes(&self, since: Revision, limit: usize) -> Changes {
        if since == Revision::START || since < self.forgotten || since > self.latest {
            return Changes::Unknown { until: self.latest };
        }
        let mut behind = self.changes.range((Bound::Excluded(since), Bound::Unbounded));
        let (mut changes, mut until) = (Vec::new(), since);
        for (revision, name) in behind.by_ref().take(limit) {
            until = *revision;
            let entry = self.entries.get(name).cloned();
            changes.push(entry.map_or_else(|| Change::Removed(name.clone()), Change::Put));
        }
        Changes::Known { changes, until, more: behind.next().is_some() }
    }

    pub(crate) fn has_changed(&self, since: Revision) -> bool {
        self.latest > since
    }

    pub(crate) fn lead(&mut self, who: &str, lease: Duration, now: Timestamp) -> Lead {
        if let Some(leader) = &mut self.leader {
            // The clock may have been set back since the lease was given.
            leader.until = leader.until.min(now + leader.lease);
            if leader.who != who && leader.until > now {
                return Lead::Led { by: leader.who.clone(), remaining: leader.until.since(now) };
            }
        }
        if self.leader.as_ref().is_none_or(|leader| leader.who != who) {
            self.term += 1;
        }
        self.leader = Some(Leader { who: who.to_owned(), lease, until: now + lease });
        Lead::Leading(Term(self.term))
    }

    /// Whether it was the newest.
    pub(crate) fn resign(&mut self, term: Term) -> bool {
        self.leads(term) && self.leader.take().is_some()
    }

    pub(crate) fn leads(&self, term: Term) -> bool {
        term.0 == self.term && self.leader.is_some()
    }

    /// Whether the step can still be taken.
    pub(crate) fn is_next(&self, step: &Step) -> bool {
        self.entries.get(&step.name).is_some_and(|entry| entry.revision == step.revision && entry.steps == step.steps)
    }

    pub(crate) fn take(&mut self, step: Step) {
        if let Some(entry) = self.entries.get_mut(&step.name) {
            entry.state = Some(step.state);
            entry.steps += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> EntryName {
        EntryName::new(format!("entry-{number}")).unwrap()
    }

    fn told(changes: &Changes) -> Option<usize> {
        match changes {
            Changes::Known { changes, .. } => Some(changes.len()),
            Changes::Unknown { .. } => None,
        }
    }

    #[test]
    fn who_asks_for_removals_that_are_forgotten_is_told_so() {
        let mut entries = Entries::default();
        let Put::Done(known) = entries.put(&name(0), Bytes::from_static(b"stays"), Condition::Always) else { return };
        let come_and_go = |entries: &mut Entries, number| {
            entries.put(&name(number), Bytes::new(), Condition::Always);
            entries.remove(&name(number));
        };
        (1..=REMEMBERED).for_each(|number| come_and_go(&mut entries, number));
        assert_eq!(told(&entries.changes(known, usize::MAX)), Some(REMEMBERED));
        // What was removed twice is remembered once.
        come_and_go(&mut entries, 1);
        assert_eq!(told(&entries.changes(known, usize::MAX)), Some(REMEMBERED));

        come_and_go(&mut entries, REMEMBERED + 1);
        let Changes::Unknown { until } = entries.changes(known, usize::MAX) else { panic!("half is forgotten") };
        assert_eq!(told(&entries.changes(until, usize::MAX)), Some(0));
        come_and_go(&mut entries, 0);
        assert_eq!(told(&entries.changes(until, usize::MAX)), Some(1));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_lease_longer() {
        let mut entries = Entries::default();
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let lease = Duration::from_secs(10);
        assert_eq!(entries.lead("first", lease, at(100_000)), Lead::Leading(Term(1)));
        let led = Lead::Led { by: "first".to_owned(), remaining: lease };
        assert_eq!(entries.lead("second", lease, at(0)), led);
        assert_eq!(entries.lead("second", lease, at(11)), Lead::Leading(Term(2)));
    }
}
