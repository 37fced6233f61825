//! The leader's lease: renewed in good time, and never trusted for longer than it is sure to last.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use celeriac_core::{Clock, Error, ErrorKind, Result, Timestamp};
use celeriac_schedule::{Lead, ScheduleStore, Term};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::control::{SchedulerHandle, pause};

/// Asks `store` within a deadline.
pub(crate) async fn within<T>(deadline: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::new(ErrorKind::Timeout, "schedule", format!("the store did not answer within {deadline:?}"));
    tokio::time::timeout(deadline, call).await.map_err(late)?
}

#[derive(Debug)]
pub(crate) struct Lease {
    store: Arc<dyn ScheduleStore>,
    clock: Arc<dyn Clock>,
    who: String,
    length: Duration,
    pub(crate) term: Term,
    /// When it was last asked for, with success: by the clock, which goes on while the machine sleeps, and by a timer, which nobody sets.
    renewed: Mutex<(Timestamp, Instant)>,
    renewals: watch::Sender<()>,
    urgent: Notify,
}

/// Whether somebody leads.
#[derive(Debug)]
pub(crate) enum Asked {
    Leading(Box<Lease>),
    Led { by: String, remaining: Duration },
}

/// Asks to lead.
pub(crate) async fn ask(
    store: &Arc<dyn ScheduleStore>,
    clock: &Arc<dyn Clock>,
    who: &str,
    length: Duration,
) -> Result<Asked> {
    let asked = (clock.now(), Instant::now());
    Ok(match within(length / 3, store.lead(who, length)).await? {
        Lead::Led { by, remaining } => Asked::Led { by, remaining },
        Lead::Leading(term) => Asked::Leading(Box::new(Lease {
            store: Arc::clone(store),
            clock: Arc::clone(clock),
            who: who.to_owned(),
            length,
            term,
            renewed: Mutex::new(asked),
            renewals: watch::Sender::new(()),
            urgent: Notify::new(),
        })),
    })
}

impl Lease {
    /// The time since it was last renewed, the longer of both; `None` if the clock was set back since then, so that nobody knows.
    fn age(&self) -> Option<Duration> {
        let (by_clock, by_timer) = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        (now >= by_clock).then(|| now.since(by_clock).max(by_timer.elapsed()))
    }

    /// Whether it is sure to last for a while.
    pub(crate) fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age < self.length * 2 / 3)
    }

    /// Waits until it is sure to last for a while: at once, unless this process was stopped or the store is away.
    pub(crate) async fn fresh(&self) {
        let mut renewals = self.renewals.subscribe();
        while !self.is_fresh() {
            self.urgent.notify_one();
            // The sender is in `self`: this cannot fail.
            let _ = renewals.changed().await;
        }
    }

    /// What is told of every renewal.
    pub(crate) fn renewals(&self) -> watch::Receiver<()> {
        self.renewals.subscribe()
    }

    /// Renews it until it is lost.
    pub(crate) async fn keep(&self, control: &SchedulerHandle) {
        let mut wakes = control.wakes();
        let mut failures = 0;
        loop {
            let third = self.length / 3;
            let left = if failures > 0 {
                pause(failures - 1).min(third)
            } else {
                third.saturating_sub(self.age().unwrap_or(third))
            };
            // CANCEL SAFETY: nothing is in hand; whichever comes first, the lease's age is looked at again.
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = self.urgent.notified() => {}
                _ = wakes.changed() => if self.age().is_some_and(|age| age < third) { continue },
            }
            let asked = (self.clock.now(), Instant::now());
            match within(third, self.store.lead(&self.who, self.length)).await {
                Ok(Lead::Leading(term)) if term == self.term => {
                    failures = 0;
                    *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = asked;
                    self.renewals.send_replace(());
                }
                Ok(_) => return,
                Err(error) => {
                    failures += 1;
                    tracing::warn!(error = error.report(), failures, "the lease could not be renewed");
                }
            }
        }
    }
}
