//! The one task that lets messages in when they are due. It runs only while messages wait for their time.

use std::sync::{Arc, Weak};
use std::time::Duration;

use celeriac_core::Timestamp;
use tokio::sync::Notify;

use crate::state::{After, State};
use crate::store::Shared;

/// The longest sleep: the wall clock may be set, and no timer notices that.
const LONGEST: Duration = Duration::from_secs(30);

impl State {
    /// Lets in what is due in every queue, wakes whoever waits for it, and tells when the next message is due.
    pub(crate) fn let_in_due(&mut self, now: Timestamp, after: &mut After) -> Option<Timestamp> {
        let mut next = None;
        for queue in self.queues.values_mut() {
            let promoted = queue.promote(now);
            queue.wake(promoted, after);
            next = match (next, queue.next_due()) {
                (Some(one), Some(other)) => Some(other.min(one)),
                (one, other) => one.or(other),
            };
        }
        next
    }
}

/// Starts the task unless it runs. Called by those who are about to wait for a message.
pub(crate) fn ensure(shared: &Arc<Shared>, state: &mut State) {
    if state.timer.is_some() {
        return;
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        tracing::warn!(
            "no tokio runtime: delayed messages of the memory broker are only noticed when something else happens"
        );
        return;
    };
    let notify = Arc::new(Notify::new());
    state.timer = Some(Arc::clone(&notify));
    let running = Running { shared: Arc::downgrade(shared), notify };
    runtime.spawn(async move {
        while let Some(pause) = running.step() {
            // Woken or timed out: both mean to look again.
            let _ = tokio::time::timeout(pause, running.notify.notified()).await;
        }
    });
}

struct Running {
    shared: Weak<Shared>,
    notify: Arc<Notify>,
}

impl Running {
    /// Lets in what is due; how long to sleep then, `None` to end.
    fn step(&self) -> Option<Duration> {
        let shared = self.shared.upgrade()?;
        let now = shared.now();
        shared.with(|state, after| {
            let next = state.let_in_due(now, after);
            if next.is_none() {
                state.timer = None;
            }
            next.map(|due| due.since(now).min(LONGEST))
        })
    }
}

impl Drop for Running {
    /// The runtime that the task ran on may end before the store does: then the next who waits starts it again, elsewhere.
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        shared.with(|state, after| {
            if state.timer.as_ref().is_some_and(|timer| Arc::ptr_eq(timer, &self.notify)) {
                state.timer = None;
                for queue in state.queues.values_mut().filter(|queue| queue.next_due().is_some()) {
                    queue.wake(1, after);
                }
            }
        });
    }
}
