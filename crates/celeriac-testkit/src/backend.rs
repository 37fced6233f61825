//! The result backend suite: its harness, its table of behaviours, and the macro that makes tests of them.

mod closing;
mod ending;
mod kit;
mod messages;
mod records;
mod states;
mod watching;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backend::{BackendCapabilities, ResultBackend};

use crate::suite::{Behaviour, Makes, Opens, suite};

pub use kit::BackendKit;

/// How the suite gets at the result backend under test.
///
/// A closure that opens a backend is a harness: `|| async { Arc::new(MyBackend::new()) as Arc<dyn ResultBackend> }`. Implement the trait to
/// have more behaviours tested: those that need a second handle, or that the time is moved by hand.
#[async_trait]
pub trait BackendHarness: Send + Sync + 'static {
    /// Opens the backend: on a new store or a shared one. The suite uses task ids of its own.
    async fn open(&self) -> Arc<dyn ResultBackend>;

    /// Opens another handle on the store of the latest [`BackendHarness::open`], as another process would; of a durable backend, so that
    /// it sees what survived.
    async fn reopen(&self) -> Option<Arc<dyn ResultBackend>> {
        None
    }

    /// Lets time pass: sleeps, unless the backend's clock can be moved by hand.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await; // wait: a backend's own clock cannot be moved by hand
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
impl<F, Fut> BackendHarness for Opener<F>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Arc<dyn ResultBackend>> + Send,
{
    async fn open(&self) -> Arc<dyn ResultBackend> {
        (self.0)().await
    }
}

/// What [`backend_conformance!`](crate::backend_conformance) takes: a function that makes a [`BackendHarness`], or an async one that opens a
/// backend. `Kind` only tells the two apart.
pub trait IntoBackendHarness<Kind> {
    /// The harness.
    fn into_harness(self) -> Arc<dyn BackendHarness>;
}

impl<F, H> IntoBackendHarness<Makes> for F
where
    F: FnOnce() -> H,
    H: BackendHarness,
{
    fn into_harness(self) -> Arc<dyn BackendHarness> {
        Arc::new(self())
    }
}

impl<F, Fut> IntoBackendHarness<Opens> for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Arc<dyn ResultBackend>> + Send + 'static,
{
    fn into_harness(self) -> Arc<dyn BackendHarness> {
        Arc::new(Opener(self))
    }
}

/// One thing that every result backend does.
pub type BackendBehaviour = Behaviour<BackendKit, BackendCapabilities>;

impl BackendBehaviour {
    /// Tests this behaviour; if the backend lacks what it needs, says so on stderr instead.
    ///
    /// # Panics
    /// If the backend does not behave so.
    pub async fn check(&self, harness: Arc<dyn BackendHarness>) {
        let kit = Arc::new(BackendKit::open(harness, self.name).await);
        if let Some(missing) = (self.missing)(&kit.backend.capabilities()) {
            crate::suite::skipped("backend", self.name, missing);
        } else {
            (self.run)(Arc::clone(&kit)).await;
        }
        // Most behaviours leave closing to the kit; those that test it did it already, which is allowed.
        kit.backend.close().await.expect("a backend can be closed, also twice");
    }
}

/// Tests the behaviour `name` on a runtime of its own: what [`backend_conformance!`](crate::backend_conformance) calls.
///
/// # Panics
/// If the backend does not behave so, or no behaviour has that name.
pub fn check<Kind>(harness: impl IntoBackendHarness<Kind>, name: &str) {
    let behaviour = BEHAVIOURS.iter().find(|one| one.name == name).expect("the behaviour is one of `BEHAVIOURS`");
    let harness = harness.into_harness();
    crate::suite::run("backend", behaviour.name, behaviour.contract, behaviour.check(harness));
}

suite! { ($) backend, BackendBehaviour,
    /// Makes one `#[test]` of every behaviour of a result backend.
    ///
    /// Takes a function that makes a [`BackendHarness`](crate::backend::BackendHarness), or an async one that opens a backend.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use celeriac_backend::ResultBackend;
    /// # fn open() -> Arc<dyn ResultBackend> { std::process::abort() }
    /// mod my_backend {
    ///     # use super::*;
    ///     celeriac_testkit::backend_conformance!(|| async { open() });
    /// }
    /// ```
    macro backend_conformance;

    // Records.
    records::a_record_comes_back_as_it_was_stored:
        "every field of a record is fetched as it was stored";
    records::a_record_without_anything_comes_back:
        "what a record leaves out stays left out";
    records::a_failure_comes_back_as_it_was_stored:
        "a failure's exception and traceback are fetched as they were stored";
    records::a_result_of_any_bytes_comes_back:
        "a result may hold any bytes, one mebibyte of them too, and is never looked into";
    records::missing_records_are_none_and_the_order_is_kept:
        "`fetch` answers in the order of its ids, with `None` where nothing is stored";
    records::empty_batches_do_nothing:
        "storing, fetching and forgetting nothing succeeds";
    records::a_batch_of_many_is_stored:
        "`Ok` of `store` means that all of the batch is stored";
    records::ids_of_any_text_are_kept_apart:
        "a task id is any text of up to 155 bytes, and no two are mixed up";
    records::many_store_at_once:
        "many may store and fetch at once";

    // States.
    states::progress_is_overwritten:
        "a task that runs moves on freely from state to state";
    states::a_success_is_final:
        "a success is final: a later write is passed over, and is no error";
    states::an_ended_task_does_not_run_again:
        "a failure or revocation gives way only to another end";
    states::a_batch_is_stored_in_order:
        "a batch is stored in order, by the same rules within as between batches";
    states::of_competing_ends_a_success_stays:
        "whatever is stored at the same time, a success once stored stays";

    // Watching.
    watching::a_watch_begins_with_the_record_that_is_there:
        "a watch yields first the record that is there";
    watching::a_watch_sees_what_is_stored_later:
        "a watch yields the records that are stored after it began, without polling by the caller";
    watching::no_final_record_is_missed:
        "no final record is missed, whether it is stored before, while or after `watch` is called";
    watching::a_slow_watch_sees_the_newest:
        "whoever is slow sees the newest record";
    watching::two_watches_see_the_same:
        "a task may be watched more than once";
    watching::a_watch_sees_its_own_task_only:
        "a watch yields no other task's records";
    watching::nothing_follows_a_final_record:
        "after a final record `next` waits for ever";
    watching::a_dropped_next_loses_no_record:
        "dropping a pending `next` loses no record";
    watching::a_watch_on_another_handle_is_woken needs shared:
        "what one handle stores, a watch on another handle sees";

    // Forgetting and expiring.
    ending::a_forgotten_record_is_gone:
        "a forgotten record is gone, and no other one";
    ending::forgetting_what_is_not_there_is_no_error:
        "forgetting an id without a record is no error";
    ending::after_forgetting_a_task_starts_anew:
        "a forgotten record binds nobody: any state may be stored, and a new watch sees only that";
    ending::a_watch_goes_on_after_a_record_was_forgotten:
        "a record forgotten before `next` is yielded or left out, and the watch goes on with what is stored later";
    ending::an_expired_record_is_gone:
        "a record that expired is not fetched, and a watch that begins later does not see it";
    ending::an_expired_record_binds_nobody:
        "what is stored after a record expired is not held to its state";
    ending::sweeping_leaves_what_has_not_expired:
        "`sweep` deletes the records that have expired and tells how many, or 0 where they go by themselves";
    ending::storing_again_renews_the_expiry:
        "the expiry of a record counts from its own storing";

    // Results as messages.
    messages::the_address_of_a_handle_stays_the_same without shared:
        "`reply_to` names where the results of a handle go, always the same";
    messages::a_result_without_address_goes_nowhere without shared:
        "a result without an address goes nowhere, and that is no error";
    messages::a_result_comes_to_its_address_alone without shared:
        "what is stored through one handle comes to the handle it is addressed to, and to no other; that its reader is gone is no error";

    // Closing.
    closing::close_ends_a_pending_watch:
        "`close` ends a pending `next` with `Unavailable`";
    closing::calls_after_close_are_unavailable:
        "every call after `close` fails with `Unavailable`";
    closing::closing_twice_does_nothing:
        "closing again does nothing";
    closing::closing_one_handle_leaves_the_others needs shared:
        "closing a handle closes no other, and takes no record along";
    closing::records_survive_a_reopening needs durable:
        "records survive the restart of the store";
}
