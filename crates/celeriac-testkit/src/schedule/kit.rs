//! What the behaviours are written with.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use celeriac_broker::Broker;
use celeriac_core::EntryName;
use celeriac_schedule::{
    Advance, Change, Changes, Condition, Lead, Put, Revision, ScheduleStore, Step, Stepped, StoredEntry, Term,
};

use super::ScheduleHarness;

/// The store under test, and what the behaviours do with it.
pub struct ScheduleKit {
    pub(super) store: Arc<dyn ScheduleStore>,
    harness: Arc<dyn ScheduleHarness>,
    name: &'static str,
}

impl fmt::Debug for ScheduleKit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScheduleKit").field("store", &self.store).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A lease that does not end while a behaviour is tested.
pub(super) const LONG: Duration = Duration::from_secs(3_600);

pub(super) fn name(text: impl Into<String>) -> EntryName {
    EntryName::new(text.into()).expect("a valid name")
}

pub(super) fn limit(limit: usize) -> NonZeroUsize {
    NonZeroUsize::new(limit).expect("a limit is not 0")
}

/// The step that follows what is stored.
pub(super) fn step(entry: &StoredEntry, state: impl Into<String>) -> Step {
    Step::new(entry.name.clone(), entry.revision, entry.steps, state.into())
}

/// The state as a text.
pub(super) fn state(entry: &StoredEntry) -> Option<String> {
    entry.state.as_ref().map(|state| String::from_utf8_lossy(state).into_owned())
}

impl ScheduleKit {
    pub(super) async fn open(harness: Arc<dyn ScheduleHarness>, name: &'static str) -> Self {
        Self { store: harness.open().await, harness, name }
    }

    /// Another handle on the same store; says that the behaviour is skipped if there is none.
    pub(super) async fn reopen(&self) -> Option<Arc<dyn ScheduleStore>> {
        let handle = self.harness.reopen().await;
        if handle.is_none() {
            crate::suite::skipped("schedule", self.name, "a second handle, from `ScheduleHarness::reopen`");
        }
        handle
    }

    /// Another handle on the same store, or else the same.
    pub(super) async fn another(&self) -> Arc<dyn ScheduleStore> {
        let other = if self.store.capabilities().shared { self.harness.reopen().await } else { None };
        other.unwrap_or_else(|| Arc::clone(&self.store))
    }

    /// The broker on the same store; says that the behaviour is skipped if there is none.
    pub(super) async fn broker(&self) -> Option<Arc<dyn Broker>> {
        let broker = self.harness.broker().await;
        if broker.is_none() {
            crate::suite::skipped("schedule", self.name, "a broker, from `ScheduleHarness::broker`");
        }
        broker
    }

    pub(super) async fn pass(&self, time: Duration) {
        self.harness.pass(time).await;
    }

    pub(super) fn patience(&self) -> Duration {
        self.harness.patience()
    }

    pub(super) fn quiet(&self) -> Duration {
        self.harness.quiet()
    }

    /// Writes a definition in any case.
    pub(super) async fn put(&self, name: &EntryName, definition: impl Into<String>) -> Revision {
        match self.put_if(name, definition, Condition::Always).await {
            Put::Done(revision) => revision,
            unmet @ Put::Unmet(_) => panic!("a definition without a condition is written: {unmet:?}"),
        }
    }

    pub(super) async fn put_if(&self, name: &EntryName, definition: impl Into<String>, condition: Condition) -> Put {
        self.store.put(name, definition.into().into(), condition).await.expect("an open store writes")
    }

    pub(super) async fn remove(&self, name: &EntryName) -> bool {
        self.store.remove(name).await.expect("an open store removes")
    }

    pub(super) async fn find(&self, name: &EntryName) -> Option<StoredEntry> {
        self.store.get(name).await.expect("an open store reads")
    }

    /// The entry, which is there.
    pub(super) async fn get(&self, name: &EntryName) -> StoredEntry {
        self.find(name).await.unwrap_or_else(|| panic!("the entry `{name}` is there"))
    }

    /// Where whoever lists everything now has to go on.
    pub(super) async fn latest(&self) -> Revision {
        match self.store.changes(Revision::START, limit(1)).await.expect("an open store reads") {
            Changes::Unknown { until } => until,
            known @ Changes::Known { .. } => panic!("from the start, changes are unknown: {known:?}"),
        }
    }

    /// Up to `most` changes that are remembered, where to go on, and whether there is more.
    pub(super) async fn changes(&self, since: Revision, most: usize) -> (Vec<Change>, Revision, bool) {
        match self.store.changes(since, limit(most)).await.expect("an open store reads") {
            Changes::Known { changes, until, more } => (changes, until, more),
            Changes::Unknown { .. } => panic!("a few changes are remembered"),
        }
    }

    pub(super) async fn try_lead(&self, who: &str, lease: Duration) -> Lead {
        self.store.lead(who, lease).await.expect("an open store tells who leads")
    }

    /// Leads, which nobody else does.
    pub(super) async fn lead(&self, who: &str) -> Term {
        match self.try_lead(who, LONG).await {
            Lead::Leading(term) => term,
            led @ Lead::Led { .. } => panic!("nobody else leads: {led:?}"),
        }
    }

    /// Takes steps, each with its outcome.
    pub(super) async fn advance(&self, term: Term, steps: Vec<Step>) -> Vec<Stepped> {
        let count = steps.len();
        match self.store.advance(term, steps).await.expect("an open store takes steps") {
            Advance::Stepped(outcomes) => {
                assert_eq!(outcomes.len(), count, "each step has an outcome");
                outcomes
            }
            Advance::Fenced => panic!("the newest leader is not fenced"),
        }
    }

    /// Takes one step, and tells whether it was.
    pub(super) async fn advances(&self, term: Term, step: Step) -> bool {
        match self.advance(term, vec![step]).await.pop() {
            Some(Stepped::Done) => true,
            Some(Stepped::Stale) => false,
            refused => panic!("a step without messages is not refused: {refused:?}"),
        }
    }
}
