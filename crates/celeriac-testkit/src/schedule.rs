//! The suite for stores of schedules: its harness, its table of behaviours, and the macro that makes tests of them.

mod advancing;
mod changing;
mod closing;
mod entries;
mod kit;
mod leading;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_broker::Broker;
use celeriac_schedule::{ScheduleCapabilities, ScheduleStore};

use crate::suite::{Behaviour, Makes, Opens, suite};

pub use kit::ScheduleKit;

/// How the suite gets at the store under test.
///
/// A closure that opens a store is a harness: `|| async { Arc::new(MyStore::new()) as Arc<dyn ScheduleStore> }`. Implement the trait to have more
/// behaviours tested: those that need a second handle, a broker, or that the time is moved by hand.
#[async_trait]
pub trait ScheduleHarness: Send + Sync + 'static {
    /// Opens a store that nobody else uses: it has no entries and no leader.
    async fn open(&self) -> Arc<dyn ScheduleStore>;

    /// Opens another handle on the store of the latest [`ScheduleHarness::open`], as another process would; of a durable store, so that it sees
    /// what survived.
    async fn reopen(&self) -> Option<Arc<dyn ScheduleStore>> {
        None
    }

    /// Opens the broker on that store.
    async fn broker(&self) -> Option<Arc<dyn Broker>> {
        None
    }

    /// Lets time pass: sleeps, unless the store's clock can be moved by hand.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await; // wait: a store's own clock cannot be moved by hand
    }

    /// How long to wait for what must come. Default ten seconds.
    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// How long to watch out for what must not come. Default 60 milliseconds.
    fn quiet(&self) -> Duration {
        Duration::from_millis(60)
    }
}

struct Opener<F>(F);

#[async_trait]
impl<F, Fut> ScheduleHarness for Opener<F>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Arc<dyn ScheduleStore>> + Send,
{
    async fn open(&self) -> Arc<dyn ScheduleStore> {
        (self.0)().await
    }
}

/// What [`schedule_conformance!`](crate::schedule_conformance) takes: a function that makes a [`ScheduleHarness`], or an async one that opens a
/// store. `Kind` only tells the two apart.
pub trait IntoScheduleHarness<Kind> {
    /// The harness.
    fn into_harness(self) -> Arc<dyn ScheduleHarness>;
}

impl<F, H> IntoScheduleHarness<Makes> for F
where
    F: FnOnce() -> H,
    H: ScheduleHarness,
{
    fn into_harness(self) -> Arc<dyn ScheduleHarness> {
        Arc::new(self())
    }
}

impl<F, Fut> IntoScheduleHarness<Opens> for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Arc<dyn ScheduleStore>> + Send + 'static,
{
    fn into_harness(self) -> Arc<dyn ScheduleHarness> {
        Arc::new(Opener(self))
    }
}

/// One thing that every store of schedules does.
pub type ScheduleBehaviour = Behaviour<ScheduleKit, ScheduleCapabilities>;

impl ScheduleBehaviour {
    /// Tests this behaviour; if the store lacks what it needs, says so on stderr instead.
    ///
    /// # Panics
    /// If the store does not behave so.
    pub async fn check(&self, harness: Arc<dyn ScheduleHarness>) {
        let kit = Arc::new(ScheduleKit::open(harness, self.name).await);
        if let Some(missing) = (self.missing)(&kit.store.capabilities()) {
            crate::suite::skipped("schedule", self.name, missing);
        } else {
            (self.run)(Arc::clone(&kit)).await;
        }
        // Most behaviours leave closing to the kit; those that test it did it already, which is allowed.
        kit.store.close().await.expect("a store can be closed, also twice");
    }
}

/// Tests the behaviour `name` on a runtime of its own: what [`schedule_conformance!`](crate::schedule_conformance) calls.
///
/// # Panics
/// If the store does not behave so, or no behaviour has that name.
pub fn check<Kind>(harness: impl IntoScheduleHarness<Kind>, name: &str) {
    let behaviour = BEHAVIOURS.iter().find(|one| one.name == name).expect("the behaviour is one of `BEHAVIOURS`");
    let harness = harness.into_harness();
    crate::suite::run("schedule", behaviour.name, behaviour.contract, behaviour.check(harness));
}

suite! { ($) schedule, ScheduleBehaviour,
    /// Makes one `#[test]` of every behaviour of a store of schedules.
    ///
    /// Takes a function that makes a [`ScheduleHarness`](crate::schedule::ScheduleHarness), or an async one that opens a store.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use celeriac_schedule::ScheduleStore;
    /// # fn open() -> Arc<dyn ScheduleStore> { std::process::abort() }
    /// mod my_store {
    ///     # use super::*;
    ///     celeriac_testkit::schedule_conformance!(|| async { open() });
    /// }
    /// ```
    macro schedule_conformance;

    // Entries.
    entries::a_definition_of_any_bytes_comes_back:
        "a definition may hold any bytes, one mebibyte of them too, and is never looked into";
    entries::names_of_any_text_are_kept_apart:
        "a name is any text of up to 255 bytes, and no two are mixed up";
    entries::each_change_has_a_larger_revision:
        "each change of a definition has a larger revision than all before, removals counted";
    entries::writing_what_is_there_changes_nothing:
        "writing the definition that is there changes nothing, and tells its revision";
    entries::a_definition_is_written_only_if_its_condition_holds:
        "a definition whose condition does not hold is not written, and the revision that is there is told";
    entries::of_writers_at_once_one_succeeds:
        "of those who write at once on condition of one revision, one succeeds";
    entries::a_removed_entry_is_gone_with_its_state:
        "a removed entry is gone, and one of the same name begins without a state";
    entries::entries_are_listed_by_name_page_by_page:
        "entries are listed in the order of their names, each once, page by page";

    // Changes.
    changing::from_the_start_changes_are_unknown:
        "whoever asks from the start is told to list, and where to go on";
    changing::changes_come_in_the_order_of_their_revisions:
        "changes come in the order of revisions, each entry once and as it is, removed ones too";
    changing::changes_come_page_by_page:
        "changes come up to the limit at once, and whether there is more is told";
    changing::a_step_is_no_change:
        "a step changes no definition, and wakes nobody";
    changing::who_waits_is_woken_by_a_change:
        "who waits for a change is woken by one, from whatever handle, and by one that came before";
    changing::a_dropped_wait_loses_no_change:
        "dropping a pending `changed` loses no change";

    // Leading.
    leading::one_of_many_leads:
        "of those who would lead at once, one does, and the others are told who, and for how long";
    leading::the_leader_renews_its_lease_and_keeps_its_term:
        "a leader that renews in time keeps its term, and nobody takes over";
    leading::when_the_lease_ends_another_leads:
        "when the lease has ended another may lead, in a later term";
    leading::when_the_leader_resigns_another_leads_at_once:
        "after the leader resigned another may lead at once, and all who wait are woken, at every handle";
    leading::who_does_not_lead_cannot_resign:
        "resigning a term that is not the newest does nothing";

    // Steps.
    advancing::a_step_leaves_its_state:
        "a step that is taken leaves its state, and is counted";
    advancing::a_state_of_any_bytes_comes_back:
        "a state may hold any bytes, one mebibyte of them too";
    advancing::numbers_that_were_never_given_fit_nothing:
        "a revision, a term or a number of steps that was never given fits nothing, however large";
    advancing::a_change_of_the_definition_leaves_the_state:
        "a change of the definition leaves the state";
    advancing::a_step_is_taken_once:
        "a step that was taken is stale when it comes again";
    advancing::a_step_from_an_older_definition_is_stale:
        "a step from a definition that has changed or gone is stale, and the others are taken";
    advancing::a_former_leader_is_fenced:
        "once another leads, or the leader resigned, no step of the former term is taken";
    advancing::an_ended_lease_is_no_hindrance:
        "a leader whose lease has ended may take steps as long as nobody else leads";
    advancing::of_two_leaders_steps_each_is_taken_once:
        "whatever leaders do at once, each step is taken once";
    advancing::a_batch_of_many_is_taken:
        "a batch of a thousand steps is taken in order";
    advancing::publishing_without_the_capability_is_unsupported without publishes:
        "a store that cannot publish refuses a step with messages as `Unsupported`, and has no `store_id`";
    advancing::messages_are_published_with_their_step needs publishes:
        "the messages of a step are published when it is taken, to the store that `store_id` names, and not when it is stale or fenced";
    advancing::who_waits_for_messages_gets_those_of_steps_in_order needs publishes:
        "a consumer that waits is woken by the messages of steps, as by others, and gets them in the order of the steps";
    advancing::a_batch_that_publishes_is_taken_in_order needs publishes:
        "the messages of a batch are published in the order of its steps, each once, whoever sends the batch again";
    advancing::a_step_that_cannot_be_published_is_refused needs publishes:
        "a step whose messages cannot be published is refused alone: it leaves no state, and the others are taken";

    // Closing.
    closing::calls_after_close_are_unavailable:
        "every call after `close` fails with `Unavailable`";
    closing::close_ends_a_pending_wait:
        "`close` ends a pending `changed` with `Unavailable`";
    closing::closing_one_handle_leaves_the_others needs shared:
        "closing a handle closes no other, and takes no entry along";
    closing::entries_and_terms_survive_a_reopening needs durable:
        "entries, states, revisions and terms survive the restart of the store";
}
