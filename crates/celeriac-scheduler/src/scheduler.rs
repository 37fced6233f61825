//! `Scheduler`: leads if nobody else does, and waits for its turn else.

use std::sync::Arc;
use std::time::Duration;

use celeriac_core::{Clock, Error, Result, SystemClock, TaskId};
use celeriac_schedule::{Changes, Revision, ScheduleStore};
use tokio::time::Instant;

use crate::control::{SchedulerHandle, pause};
use crate::dispatch::Dispatch;
use crate::entries::Entries;
use crate::entry::Entry;
use crate::leader::{End, Leader};
use crate::lease::{Asked, ask, within};

/// The shortest lease.
const SHORTEST: Duration = Duration::from_millis(300);

/// How long it may take to write what the code declares, which reads all entries.
const DECLARING: Duration = Duration::from_secs(60);

/// Sends what is due of the entries in a store.
///
/// Any number may run on one store, in one process or in many. One leads, by a lease that it renews; when it dies, another takes over as soon as the
/// lease has ended, and when it stops, at once.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use celeriac_core::{EntryName, Result, Signature};
/// use celeriac_memory::MemoryStore;
/// use celeriac_scheduler::{Dispatch, Entries, Entry, Scheduler, SchedulerHandle, Tick, Units as _, every};
///
/// #[derive(Debug)]
/// struct Print(SchedulerHandle);
///
/// #[celeriac_scheduler::async_trait]
/// impl Dispatch for Print {
///     async fn send(&self, ticks: &[Tick]) -> Vec<Result<()>> {
///         for tick in ticks {
///             println!("{} is due", tick.entry.task.task);
///         }
///         self.0.stop();
///         ticks.iter().map(|_| Ok(())).collect()
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let store = Arc::new(MemoryStore::new());
/// let often = every(50.milliseconds()).build()?;
/// let entry = Entry::new(EntryName::from_static("look"), often, Signature::named("shop.look"));
/// Entries::new(store.clone()).put(&entry).await?;
///
/// let handle = SchedulerHandle::new();
/// Scheduler::builder(store, Arc::new(Print(handle.clone()))).handle(handle).build()?.run().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Scheduler {
    store: Arc<dyn ScheduleStore>,
    dispatch: Arc<dyn Dispatch>,
    clock: Arc<dyn Clock>,
    control: SchedulerHandle,
    lease: Duration,
    who: String,
    /// What is declared in the code, and by whom.
    declaration: Option<(String, Vec<Entry>)>,
}

/// Makes a [`Scheduler`].
#[derive(Debug)]
#[must_use]
pub struct SchedulerBuilder {
    scheduler: Scheduler,
}

impl SchedulerBuilder {
    /// Sets where the time comes from; see [`SchedulerHandle::wake`]. Default the machine's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.scheduler.clock = clock;
        self
    }

    /// [Declares](Entries::declare) `entries` as those of `owner` when it is run, whether it will lead or not.
    pub fn declaring(mut self, owner: impl Into<String>, entries: Vec<Entry>) -> Self {
        self.scheduler.declaration = Some((owner.into(), entries));
        self
    }

    /// Sets what it is stopped by. Default one of its own: see [`Scheduler::handle`].
    pub fn handle(mut self, handle: SchedulerHandle) -> Self {
        self.scheduler.control = handle;
        self
    }

    /// Sets how long a leader that died is waited for before another leads. It is renewed three times in that time. Default 10 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.scheduler.lease = lease;
        self
    }

    /// Sets the name that others see when this one leads; what follows it in the store makes it unique. Default `scheduler`.
    pub fn name(mut self, name: &str) -> Self {
        self.scheduler.who = format!("{name}-{}", TaskId::random());
        self
    }

    /// Makes the scheduler.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) for a lease that is shorter than 300 ms, and for entries that cannot be.
    pub fn build(self) -> Result<Scheduler> {
        if self.scheduler.lease < SHORTEST {
            let given = self.scheduler.lease;
            return Err(Error::config("schedule", format!("lease `{given:?}`: must be {SHORTEST:?} at least")));
        }
        self.scheduler.declaration.as_ref().map_or(Ok(()), |(_, entries)| Entries::check(entries))?;
        Ok(self.scheduler)
    }
}

impl Scheduler {
    /// A scheduler of the entries in `store`, which sends by `dispatch`.
    pub fn builder(store: Arc<dyn ScheduleStore>, dispatch: Arc<dyn Dispatch>) -> SchedulerBuilder {
        let scheduler = Self {
            store,
            dispatch,
            clock: Arc::new(SystemClock),
            control: SchedulerHandle::new(),
            lease: Duration::from_secs(10),
            who: String::new(),
            declaration: None,
        };
        SchedulerBuilder { scheduler }.name("scheduler")
    }

    /// What it is stopped by.
    #[must_use]
    pub fn handle(&self) -> SchedulerHandle {
        self.control.clone()
    }

    /// Runs until it is [stopped](SchedulerHandle::stop). What fails for now is tried again, with pauses that grow: a store or a broker that is away ends
    /// nothing.
    ///
    /// # Errors
    /// What the store returns, if trying again is no use; [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) if another owner declares an entry that is
    /// [declared](SchedulerBuilder::declaring) here.
    ///
    /// # Cancel safety
    /// A scheduler that is dropped leads until its lease ends. Where store and broker are one system no tick is lost or sent twice; elsewhere a tick that
    /// was being sent is sent again, under the same id.
    pub async fn run(self) -> Result<()> {
        let mut failures = 0;
        let mut is_declared = false;
        while !self.control.is_stopped() {
            let begun = Instant::now();
            let outcome = if is_declared {
                self.turn().await
            } else {
                let declared = self.declare().await;
                is_declared = declared.is_ok();
                declared
            };
            match outcome {
                Ok(()) => failures = 0,
                Err(error) if error.is_retryable() => {
                    // What went well for a while fails for the first time.
                    if begun.elapsed() > self.lease {
                        failures = 0;
                    }
                    tracing::warn!(error = error.report(), failures, "the store of the schedule is away");
                    // CANCEL SAFETY: nothing is in hand.
                    tokio::select! {
                        () = self.control.stopped() => {}
                        () = tokio::time::sleep(pause(failures)) => {}
                    }
                    failures += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what the code declares, as far as the store answers in time: the next try goes on from there.
    async fn declare(&self) -> Result<()> {
        let Some((owner, entries)) = &self.declaration else { return Ok(()) };
        let known = Entries::new(Arc::clone(&self.store)).clock(Arc::clone(&self.clock));
        // CANCEL SAFETY: each entry is written as a whole, and another start writes what is left.
        tokio::select! {
            () = self.control.stopped() => Ok(()),
            declared = within(DECLARING, known.declare(owner, entries)) => declared,
        }
    }

    /// Asks to lead once, and leads or waits.
    async fn turn(&self) -> Result<()> {
        match ask(&self.store, &self.clock, &self.who, self.lease).await? {
            Asked::Led { by, remaining } => {
                tracing::debug!(by, ?remaining, "another scheduler leads");
                self.wait(remaining).await
            }
            Asked::Leading(lease) => {
                tracing::info!(term = lease.term.0, who = self.who, "leading");
                let mut leader =
                    Leader::new(&self.store, &self.dispatch, &self.clock, &self.control, &lease, self.lease);
                // CANCEL SAFETY: what is dropped when the lease is lost is another's from now on. A step that was being taken is refused or taken as a
                // whole; a tick that was being sent may be sent again, under the same id.
                let end = tokio::select! {
                    end = leader.work() => end,
                    () = lease.keep(&self.control) => Ok(End::Lost),
                };
                match end? {
                    End::Lost => tracing::warn!(term = lease.term.0, "no longer leading"),
                    End::Stopped => {
                        within(self.lease / 3, self.store.resign(lease.term)).await?;
                        tracing::info!(term = lease.term.0, "resigned");
                    }
                }
                Ok(())
            }
        }
    }

    /// Waits until there may be a reason to ask again.
    async fn wait(&self, remaining: Duration) -> Result<()> {
        let mut wakes = self.control.wakes();
        let one = std::num::NonZeroUsize::MIN;
        let until = match within(self.lease, self.store.changes(Revision::START, one)).await? {
            Changes::Unknown { until } | Changes::Known { until, .. } => until,
        };
        // CANCEL SAFETY: nothing is in hand; whichever comes first, who leads is asked again.
        tokio::select! {
            () = self.control.stopped() => {}
            _ = wakes.changed() => {}
            changed = self.store.changed(until) => changed?,
            () = tokio::time::sleep(remaining.min(self.lease)) => {}
        }
        Ok(())
    }
}
