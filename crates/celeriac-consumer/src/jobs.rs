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
#[expect(clippy::large_enum_variant, reason = "nearly all are fresh, and go without a box of their own")]
pub(crate) enum Work {
    /// As it was fetched.
    Fresh(Delivery),
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
    /// At least one permit for each job in the queue. Given and taken back under its lock; a slot that finds a job takes none.
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

    /// Adds jobs; once the queue is closed they are dropped, which hands them back.
    pub(crate) fn push(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut queue = self.lock();
        if self.ready.is_closed() {
            return;
        }
        let before = queue.len();
        queue.extend(jobs);
        self.ready.add_permits(queue.len() - before);
    }

    /// Waits for a job; `None` once the queue is closed.
    pub(crate) async fn pop(&self) -> Option<Job> {
        loop {
            // A slot that always finds a job must not keep its thread from others.
            tokio::task::coop::consume_budget().await;
            if let Some(job) = self.try_pop() {
                return Some(job);
            }
            self.ready.acquire().await.ok()?.forget();
        }
    }

    fn try_pop(&self) -> Option<Job> {
        let mut queue = self.lock();
        let job = queue.pop_front();
        if job.is_none() {
            self.ready.forget_permits(usize::MAX);
        }
        job
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
        let mut queue = self.lock();
        self.ready.close();
        queue.drain(..).collect()
    }
}
