//! The end of tasks: results are stored, what follows is published, messages are settled, many at a time.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backend::ResultBackend;
use celeriac_broker::{Broker, Completion, Outgoing, Receipt, Requeue, Unsettled, Verb, settle_all};
use celeriac_core::{Error, StoreResult, TaskFailure, TaskState, Timestamp};
use celeriac_serializer::Serializer;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The most tasks that end as one.
const BATCH: usize = 2_048;

/// A task that has ended, and what is to become of it.
#[derive(Debug)]
pub(crate) struct Done {
    /// `None` if the message was acknowledged before the task ran.
    pub(crate) receipt: Option<Receipt>,
    pub(crate) end: End,
    pub(crate) result: Option<StoreResult>,
    pub(crate) next: Vec<Outgoing>,
}

/// What becomes of the message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum End {
    Ack,
    Reject(Requeue),
    Park(Timestamp),
}

impl Done {
    pub(crate) fn new(receipt: Option<Receipt>, end: End) -> Self {
        Self { receipt, end, result: None, next: Vec::new() }
    }

    pub(crate) fn with_result(mut self, result: Option<StoreResult>) -> Self {
        self.result = result;
        self
    }
}

/// Finishes tasks as they come: whatever ended while one batch was under way is the next.
#[derive(Debug)]
pub(crate) struct Finisher {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) backend: Option<Arc<dyn ResultBackend>>,
    pub(crate) failure_format: Arc<dyn Serializer>,
    /// From then on nothing is tried a second time.
    pub(crate) cold: CancellationToken,
}

impl Finisher {
    /// Works until every sender is gone and everything is finished.
    pub(crate) async fn run(self, mut ended: mpsc::Receiver<Done>) {
        let mut batch = Vec::with_capacity(BATCH);
        while ended.recv_many(&mut batch, BATCH).await > 0 {
            self.finish(std::mem::take(&mut batch)).await;
        }
    }

    /// Whether result and acknowledgement can be one transition.
    fn atomic(&self) -> bool {
        let backend = self.backend.as_ref().and_then(|backend| backend.store_id());
        backend.is_some() && backend == self.broker.store_id()
    }

    async fn finish(&self, batch: Vec<Done>) {
        let atomic = self.atomic();
        let mut settle = Vec::with_capacity(batch.len());
        let (mut results, mut next) = (Vec::new(), Vec::new());
        for Done { receipt, end, result, next: follow } in batch {
            let verb = match (end, receipt.is_some() && atomic) {
                (End::Ack, true) if result.is_some() || !follow.is_empty() => {
                    let mut completion = Completion::new();
                    completion.result = result;
                    completion.next = follow;
                    Verb::Complete(Box::new(completion))
                }
                (end, _) => {
                    results.extend(result);
                    next.extend(follow);
                    match end {
                        End::Ack => Verb::Ack,
                        End::Reject(requeue) => Verb::Reject(requeue),
                        End::Park(until) => Verb::Park(until),
                    }
                }
            };
            settle.extend(receipt.map(|receipt| (receipt, verb)));
        }
        // The order that never loses: what follows, the result, the acknowledgement. A crash in between repeats the task.
        if !next.is_empty() && self.publish(next).await.is_err() {
            return;
        }
        if !results.is_empty() && self.store(results).await.is_err() {
            return;
        }
        self.settle(settle).await;
    }

    async fn publish(&self, next: Vec<Outgoing>) -> Result<(), Error> {
        let mut tries = Tries::new(&self.cold);
        loop {
            match self.broker.publish(next.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => tries.again("what follows a task could not be published", error).await?,
            }
        }
    }

    /// Stores results. One that is refused for good becomes a failure, and is given up if that is refused too.
    ///
    /// # Errors
    /// If it is not to be tried any longer.
    async fn store(&self, results: Vec<StoreResult>) -> Result<(), Error> {
        let Some(backend) = &self.backend else { return Ok(()) };
        match self.try_store(backend.as_ref(), &results).await {
            Err(error) if !error.is_retryable() => {}
            outcome => return outcome,
        }
        // One result at fault must not hold up the others.
        for result in results {
            let Err(error) = self.try_store(backend.as_ref(), std::slice::from_ref(&result)).await else { continue };
            if error.is_retryable() {
                return Err(error);
            }
            match self.try_store(backend.as_ref(), &[self.unstorable(&result, &error)]).await {
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => {
                    tracing::error!(id = %result.meta.task_id, error = %error.report(), "a task stays without a result");
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Stores results, again and again while waiting may cure what is wrong.
    async fn try_store(&self, backend: &dyn ResultBackend, results: &[StoreResult]) -> Result<(), Error> {
        let mut tries = Tries::new(&self.cold);
        loop {
            match backend.store(results.to_vec()).await {
                Err(error) if error.is_retryable() => tries.again("results could not be stored", error).await?,
                outcome => return outcome,
            }
        }
    }

    async fn settle(&self, mut batch: Vec<(Receipt, Verb)>) {
        let mut tries = Tries::new(&self.cold);
        while !batch.is_empty() {
            let Err(Unsettled { error, rest }) = settle_all(batch).await else { return };
            if error.is_retryable() {
                if tries.again("tasks could not be settled", error).await.is_err() {
                    return;
                }
                batch = rest;
                continue;
            }
            // A broker stops at the first settlement that fails: that one is at fault, and must not hold up the others.
            let mut rest = rest.into_iter();
            let instead = rest.next().and_then(|(receipt, verb)| Some((receipt, self.instead(verb, &error)?)));
            batch = instead.into_iter().chain(rest).collect();
        }
    }

    /// How to settle a task whose end is refused for good; `None` hands it back.
    fn instead(&self, verb: Verb, error: &Error) -> Option<Verb> {
        let Verb::Complete(mut completion) = verb else {
            tracing::error!(error = %error.report(), "a task could not be settled; it will be delivered again");
            return None;
        };
        let Some(result) = completion.result.take() else {
            tracing::error!(error = %error.report(), "what follows a task is refused; it will be delivered again");
            return None;
        };
        if result.meta.state == TaskState::Failure && completion.next.is_empty() {
            // To store the failure is refused too: to run the task again would end the same way.
            tracing::error!(id = %result.meta.task_id, error = %error.report(), "a task stays without a result");
            return Some(Verb::Ack);
        }
        completion.result = Some(self.unstorable(&result, error));
        Some(Verb::Complete(completion))
    }

    /// The failure to store instead of a result that the backend refuses.
    fn unstorable(&self, result: &StoreResult, error: &Error) -> StoreResult {
        tracing::error!(id = %result.meta.task_id, %error, "a result could not be stored");
        let failure = TaskFailure::new("celeriac", "ResultNotStored", error.report());
        let mut stored = result.clone();
        stored.meta.state = TaskState::Failure;
        stored.meta.result = crate::process::failure_payload(self.failure_format.as_ref(), &failure);
        stored
    }
}

/// Waits between tries, longer each time.
struct Tries<'a> {
    cold: &'a CancellationToken,
    wait: Duration,
}

impl<'a> Tries<'a> {
    fn new(cold: &'a CancellationToken) -> Self {
        Self { cold, wait: Duration::from_millis(50) }
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// `error`, if there is to be none.
    async fn again(&mut self, what: &'static str, error: Error) -> Result<(), Error> {
        if !error.is_retryable() || self.cold.is_cancelled() {
            tracing::error!(error = %error.report(), "{what}; the tasks will be delivered again");
            return Err(error);
        }
        tracing::warn!(error = %error.report(), wait = ?self.wait, "{what}; trying again");
        // CANCEL SAFETY: both are cancel safe.
        tokio::select! {
            () = tokio::time::sleep(self.wait) => {}
            () = self.cold.cancelled() => {}
        }
        self.wait = (self.wait * 2).min(Duration::from_secs(5));
        Ok(())
    }
}
