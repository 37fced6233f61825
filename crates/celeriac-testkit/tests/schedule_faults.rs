//! The suite for stores of schedules finds faults: each fault here, on top of a store without any, breaks the behaviour that names it.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use celeriac_broker::Broker;
use celeriac_core::{EntryName, Result, StoreId};
use celeriac_memory::MemoryStore;
use celeriac_schedule::{
    Advance, Changes, Condition, Lead, Put, Revision, ScheduleCapabilities, ScheduleStore, Step, StoredEntry, Term,
};
use celeriac_testkit::schedule::{self, ScheduleHarness};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    AdvancesAnybody,
    DeniesPublishing,
    ForgetsToPublish,
    ForgetsToWake,
    IgnoresClose,
    IgnoresConditions,
    IgnoresLimit,
    IgnoresRevisions,
    IgnoresSteps,
    KeepsOneTerm,
    KeepsStateOfRemoved,
    LetsAllLead,
    NeverLetsGo,
    PublishesFirst,
    RenewsNothing,
    WakesForSteps,
}

/// A store with a fault.
#[derive(Debug)]
struct Faulty {
    store: MemoryStore,
    fault: Fault,
    /// The newest term.
    term: AtomicU64,
    leader: Mutex<Option<String>>,
}

impl Faulty {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }
}

#[async_trait]
impl ScheduleStore for Faulty {
    fn capabilities(&self) -> ScheduleCapabilities {
        let mut capabilities = ScheduleStore::capabilities(&self.store);
        capabilities.publishes &= !self.is(Fault::DeniesPublishing);
        capabilities
    }

    fn store_id(&self) -> Option<StoreId> {
        ScheduleStore::store_id(&self.store)
    }

    async fn put(&self, name: &EntryName, definition: Bytes, condition: Condition) -> Result<Put> {
        let condition = if self.is(Fault::IgnoresConditions) { Condition::Always } else { condition };
        self.store.put(name, definition, condition).await
    }

    async fn remove(&self, name: &EntryName) -> Result<bool> {
        if self.is(Fault::KeepsStateOfRemoved) {
            let known = self.store.get(name).await?;
            self.store.put(name, Bytes::from_static(b"removed"), Condition::Always).await?;
            return Ok(known.is_some());
        }
        self.store.remove(name).await
    }

    async fn get(&self, name: &EntryName) -> Result<Option<StoredEntry>> {
        self.store.get(name).await
    }

    async fn list(&self, after: Option<&EntryName>, limit: NonZeroUsize) -> Result<Vec<StoredEntry>> {
        let limit = if self.is(Fault::IgnoresLimit) { NonZeroUsize::MAX } else { limit };
        self.store.list(after, limit).await
    }

    async fn changes(&self, since: Revision, limit: NonZeroUsize) -> Result<Changes> {
        let limit = if self.is(Fault::IgnoresLimit) { NonZeroUsize::MAX } else { limit };
        self.store.changes(since, limit).await
    }

    async fn changed(&self, since: Revision) -> Result<()> {
        if self.is(Fault::ForgetsToWake) {
            std::future::pending::<()>().await;
        }
        self.store.changed(since).await
    }

    async fn lead(&self, who: &str, lease: Duration) -> Result<Lead> {
        if self.is(Fault::LetsAllLead) {
            return Ok(Lead::Leading(Term(1)));
        }
        if self.is(Fault::RenewsNothing) && self.leader.lock().expect("a test").as_deref() == Some(who) {
            return Ok(Lead::Leading(Term(self.term.load(Ordering::Relaxed))));
        }
        let lead = self.store.lead(who, lease).await?;
        if let Lead::Leading(term) = &lead {
            self.term.store(term.0, Ordering::Relaxed);
            *self.leader.lock().expect("a test") = Some(who.to_owned());
        }
        let keeps = self.is(Fault::KeepsOneTerm) && matches!(lead, Lead::Leading(_));
        Ok(if keeps { Lead::Leading(Term(1)) } else { lead })
    }

    async fn resign(&self, term: Term) -> Result<()> {
        if self.is(Fault::NeverLetsGo) { Ok(()) } else { self.store.resign(term).await }
    }

    async fn advance(&self, term: Term, mut steps: Vec<Step>) -> Result<Advance> {
        let term = if self.is(Fault::AdvancesAnybody) { Term(self.term.load(Ordering::Relaxed)) } else { term };
        for step in &mut steps {
            let known = self.store.get(&step.name).await?;
            match (self.fault, known) {
                (Fault::IgnoresRevisions, Some(known)) => step.revision = known.revision,
                (Fault::IgnoresSteps, Some(known)) => step.steps = known.steps,
                (Fault::ForgetsToPublish, _) => step.publish.clear(),
                (Fault::PublishesFirst, _) => {
                    for message in std::mem::take(&mut step.publish) {
                        // As a program would that thinks of no failures.
                        let _ = self.store.publish(vec![message]).await;
                    }
                }
                (Fault::WakesForSteps, Some(known)) => {
                    let other = Bytes::from([&known.definition[..], b" "].concat());
                    self.store.put(&step.name, other, Condition::Always).await?;
                    if let Put::Done(revision) =
                        self.store.put(&step.name, known.definition.clone(), Condition::Always).await?
                        && step.revision == known.revision
                    {
                        step.revision = revision;
                    }
                }
                _ => {}
            }
        }
        self.store.advance(term, steps).await
    }

    async fn close(&self) -> Result<()> {
        if self.is(Fault::IgnoresClose) { Ok(()) } else { ScheduleStore::close(&self.store).await }
    }
}

/// Opens stores with a fault, and does not wait long for what may never come.
struct Opener(Fault, MemoryStore);

#[async_trait]
impl ScheduleHarness for Opener {
    async fn open(&self) -> Arc<dyn ScheduleStore> {
        let (store, fault) = (self.1.clone(), self.0);
        Arc::new(Faulty { store, fault, term: AtomicU64::new(0), leader: Mutex::default() })
    }

    async fn broker(&self) -> Option<Arc<dyn Broker>> {
        Some(Arc::new(self.1.clone()))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// Whether the behaviour `name` holds with `fault`.
async fn holds(fault: Fault, name: &str) -> bool {
    let behaviour = schedule::BEHAVIOURS.iter().find(|one| one.name == name).expect("the suite has this behaviour");
    tokio::spawn(behaviour.check(Arc::new(Opener(fault, MemoryStore::new())))).await.is_ok()
}

#[tokio::test]
async fn a_fault_in_a_store_of_schedules_breaks_the_behaviour_that_names_it() {
    for (fault, name) in [
        (Fault::AdvancesAnybody, "a_former_leader_is_fenced"),
        (Fault::AdvancesAnybody, "messages_are_published_with_their_step"),
        (Fault::DeniesPublishing, "publishing_without_the_capability_is_unsupported"),
        (Fault::ForgetsToPublish, "messages_are_published_with_their_step"),
        (Fault::ForgetsToPublish, "who_waits_for_messages_gets_those_of_steps_in_order"),
        (Fault::ForgetsToWake, "who_waits_is_woken_by_a_change"),
        (Fault::ForgetsToWake, "close_ends_a_pending_wait"),
        (Fault::IgnoresClose, "calls_after_close_are_unavailable"),
        (Fault::IgnoresConditions, "a_definition_is_written_only_if_its_condition_holds"),
        (Fault::IgnoresConditions, "of_writers_at_once_one_succeeds"),
        (Fault::IgnoresLimit, "changes_come_page_by_page"),
        (Fault::IgnoresLimit, "entries_are_listed_by_name_page_by_page"),
        (Fault::IgnoresRevisions, "a_step_from_an_older_definition_is_stale"),
        (Fault::IgnoresSteps, "a_step_is_taken_once"),
        (Fault::IgnoresSteps, "of_two_leaders_steps_each_is_taken_once"),
        (Fault::KeepsOneTerm, "when_the_lease_ends_another_leads"),
        (Fault::KeepsStateOfRemoved, "a_removed_entry_is_gone_with_its_state"),
        (Fault::LetsAllLead, "one_of_many_leads"),
        (Fault::NeverLetsGo, "when_the_leader_resigns_another_leads_at_once"),
        (Fault::PublishesFirst, "a_step_that_cannot_be_published_is_refused"),
        (Fault::PublishesFirst, "messages_are_published_with_their_step"),
        (Fault::RenewsNothing, "the_leader_renews_its_lease_and_keeps_its_term"),
        (Fault::WakesForSteps, "a_step_is_no_change"),
    ] {
        assert!(holds(Fault::None, name).await, "{name} holds without a fault");
        assert!(!holds(fault, name).await, "{name} does not hold with {fault:?}");
    }
}
