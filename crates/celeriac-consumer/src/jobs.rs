//! The tasks in hand that wait for a slot.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use celeriac_broker::{Delivery, Receipt};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::context::DeliveryInfo;
use crate::request::Request;

/// Work for a slot, and since when it waits.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) since: Instant,
}

/// Work for a slot.
#[derive(Debug)]
pub(crate) enum Work {
    /// As it was fetched.
    Fresh(Box<Delivery>),
    /// Read before, and held until it was due.
    Due(Box<(Request, DeliveryInfo, Receipt)>),
}

impl Work {
    pub(crate) fn into_receipt(self) -> Receipt {
        match self {
            Self::Fresh(delivery) => delivery.into_receipt(),
            Self::Due(due) => due.2,
        }
    }
}

/// A queue between the fetching loop and the slots. Bounded by the fetching loop, which counts what is in hand.
#[derive(Debug)]
pub(crate) struct Jobs {
    /// A std mutex: it is held for a push or a pop only, never across an await.
    queue: Mutex<VecDeque<Job>>,
    /// One permit for each job in the queue; there may be more permits than jobs after a drain, never fewer.
    ready: Semaphore,
    /// Told when a task that was held until its time is added.
    pub(crate) due: Notify,
}

impl Jobs {
    pub(crate) fn new() -> Self {
        Self { queue: Mutex::default(), ready: Semaphore::new(0), due: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, jobs: impl IntoIterator<Item = Job>) {
        let added = {
            let mut queue = self.lock();
            let before = queue.len();
            queue.extend(jobs);
            queue.len() - before
        };
        self.ready.add_permits(added);
    }

    /// Waits for a job; `None` once the queue is closed.
    pub(crate) async fn pop(&self) -> Option<Job> {
        loop {
            self.ready.acquire().await.ok()?.forget();
            if let Some(job) = self.lock().pop_front() {
                return Some(job);
            }
        }
    }

    /// Takes out what has waited since before `limit`.
    pub(crate) fn take_older(&self, limit: Instant) -> Vec<Job> {
        let mut queue = self.lock();
        let fresh = queue.iter().position(|job| job.since > limit).unwrap_or(queue.len());
        queue.drain(..fresh).collect()
    }

    /// Since when the oldest has waited.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.lock().front().map(|job| job.since)
    }

    /// Ends every `pop` and takes out what is left.
    pub(crate) fn close(&self) -> Vec<Job> {
        self.ready.close();
        self.lock().drain(..).collect()
    }
}
