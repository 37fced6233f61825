//! The end of tasks: results are stored, what follows is published, messages are settled, many at a time.

use std::sync::Arc;
use std::time::Duration;

use celeriac_backend::ResultBackend;
use celeriac_broker::{Completion, DeliveryTag, Receipt, Requeue, Unsettled, Verb, settle_all};
use celeriac_core::{Error, ErrorKind, Map, StoreResult, TaskFailure, TaskState, Timestamp};
use celeriac_serializer::Serializer;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The most tasks that end as one.
const BATCH: usize = 2_048;

/// How many batches are under way at once where results and messages are in one store: it has the next before it says that the last is done. Elsewhere
/// one: a broker that acknowledges all messages up to one in a word needs their order.
const AT_ONCE: usize = 2;
/// The fewest tasks that are worth a batch beside another.
const LEAST: usize = 32;

/// How long a message that cannot be settled is kept before it goes back: it would come again at once, only to end the same way.
const KEPT: Duration = Duration::from_secs(5);

/// A task that has ended, and what is to become of it.
#[derive(Debug)]
pub(crate) struct Done {
    /// `None` if the message was acknowledged before the task ran.
    pub(crate) receipt: Option<Receipt>,
    pub(crate) end: End,
    /// The result to store, if any, and nothing else. In a box, because it goes through several hands.
    pub(crate) result: Option<Box<Completion>>,
    /// Its share of the memory that results may take until they are stored.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// What becomes of the message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum End {
    Ack,
    Reject(Requeue),
    Park(Timestamp),
}

impl End {
    fn verb(self) -> Verb {
        match self {
            Self::Ack => Verb::Ack,
            Self::Reject(requeue) => Verb::Reject(requeue),
            Self::Park(until) => Verb::Park(until),
        }
    }
}

impl Done {
    pub(crate) fn new(receipt: Option<Receipt>, end: End) -> Self {
        Self { receipt, end, result: None, room: None }
    }

    /// The size of the result, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let result = self.result.as_ref().and_then(|done| done.result.as_ref());
        result.and_then(|result| result.meta.result.as_ref()).map_or(0, |payload| payload.data.len())
    }

    pub(crate) fn with_result(mut self, result: Option<Box<Completion>>) -> Self {
        self.result = result;
        self
    }
}

/// Finishes tasks as they come: whatever ended while others were under way is the next batch.
#[derive(Debug)]
pub(crate) struct Finisher {
    /// Whether result and acknowledgement can be one transition: broker and backend are the same store.
    pub(crate) atomic: bool,
    pub(crate) backend: Option<Arc<dyn ResultBackend>>,
    pub(crate) failure_format: Arc<dyn Serializer>,
    /// From then on nothing is tried a second time.
    pub(crate) cold: CancellationToken,
}

impl Finisher {
    /// Works until every sender is gone and everything is finished.
    pub(crate) async fn run(self, mut ended: mpsc::Receiver<Done>) {
        let at_once = if self.atomic { AT_ONCE } else { 1 };
        let mut under_way = FuturesUnordered::new();
        // When the worker ends, all go back.
        let mut kept = JoinSet::new();
        loop {
            let waiting = ended.len();
            if under_way.is_empty() || under_way.len() < at_once && waiting >= LEAST {
                // Where many have come, half of them: the others follow at once.
                let limit =
                    if under_way.is_empty() && waiting >= at_once * LEAST { waiting.div_ceil(at_once) } else { BATCH };
                let mut batch = Vec::with_capacity(waiting.clamp(1, BATCH));
                if ended.recv_many(&mut batch, limit.min(BATCH)).await == 0 {
                    return;
                }
                under_way.push(self.finish(batch));
                if ended.len() >= LEAST && under_way.len() < at_once {
                    continue;
                }
            }
            let refused = under_way.next().await.unwrap_or_default();
            if !refused.is_empty() {
                kept.spawn(async move {
                    tokio::time::sleep(KEPT).await;
                    drop(refused);
                });
            }
            while kept.try_join_next().is_some() {}
        }
    }

    /// Returns the messages that cannot be settled.
    async fn finish(&self, batch: Vec<Done>) -> Vec<Receipt> {
        let mut settle = Vec::with_capacity(batch.len());
        let (mut results, mut settle_after) = (Vec::new(), Vec::new());
        let mut rooms = Vec::new();
        for Done { receipt, end, result, room } in batch {
            rooms.extend(room);
            let verb = match (end, result) {
                // One transition; a store has no other use for a message that is rejected for good.
                (End::Ack | End::Reject(Requeue::No), Some(result)) if receipt.is_some() && self.atomic => {
                    Verb::Complete(result)
                }
                (end, Some(result)) => {
                    results.extend(result.result);
                    settle_after.extend(receipt.map(|receipt| (receipt, end.verb())));
                    continue;
                }
                (end, None) => end.verb(),
            };
            settle.extend(receipt.map(|receipt| (receipt, verb)));
        }
        // Those without a result have nothing to wait for: the backend may be away for long.
        let mut refused = self.settle(settle).await;
        // The order that never loses: the result, then the acknowledgement. A crash in between repeats the task.
        if !results.is_empty() && self.store(results).await.is_ok() {
            refused.extend(self.settle(settle_after).await);
        }
        refused
    }

    /// Stores results. One that is refused for good becomes a failure, and is given up if that is refused too.
    ///
    /// # Errors
    /// If it is not to be tried any longer.
    async fn store(&self, results: Vec<StoreResult>) -> Result<(), Error> {
        let Some(backend) = &self.backend else { return Ok(()) };
        match self.try_store(backend.as_ref(), &results).await {
            Err(error) if blames_one(error.kind()) => {}
            outcome => return outcome,
        }
        // One result at fault must not hold up the others.
        for result in results {
            let Err(error) = self.try_store(backend.as_ref(), std::slice::from_ref(&result)).await else { continue };
            if !blames_one(error.kind()) {
                return Err(error);
            }
            match self.try_store(backend.as_ref(), &[self.unstorable(&result, &error)]).await {
                Err(error) if !blames_one(error.kind()) => return Err(error),
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
                Err(error) if !blames_one(error.kind()) => tries.again("results could not be stored", error).await?,
                outcome => return outcome,
            }
        }
    }

    /// Returns the messages that cannot be settled.
    async fn settle(&self, mut batch: Vec<(Receipt, Verb)>) -> Vec<Receipt> {
        let mut refused = Vec::new();
        let mut tries = Tries::new(&self.cold);
        // The delivery whose result was refused, and is a failure that says so by now.
        let mut replaced: Option<DeliveryTag> = None;
        while !batch.is_empty() {
            let (error, rest) = match settle_all(batch).await {
                Ok(lost) => {
                    if !lost.is_empty() {
                        tracing::warn!(
                            tasks = lost.len(),
                            "tasks that ended were not held any more; others run them again"
                        );
                    }
                    break;
                }
                Err(Unsettled { error, rest }) => (error, rest),
            };
            if !blames_one(error.kind()) {
                if tries.again("tasks could not be settled", error).await.is_err() {
                    break;
                }
                batch = rest;
                continue;
            }
            // The first that is left is at fault, and must not hold up the others.
            let mut rest = rest.into_iter();
            let instead = rest.next().and_then(|(receipt, verb)| {
                let again = replaced == Some(receipt.tag());
                replaced = Some(receipt.tag());
                match self.instead(verb, &error, again) {
                    Some(verb) => Some((receipt, verb)),
                    None => {
                        refused.push(receipt);
                        None
                    }
                }
            });
            batch = instead.into_iter().chain(rest).collect();
        }
        refused
    }

    /// How to settle a task whose end is refused for good; `None` if its message has to go back.
    fn instead(&self, verb: Verb, error: &Error, again: bool) -> Option<Verb> {
        let result = match verb {
            Verb::Complete(completion) => completion.result,
            _ => None,
        };
        match result {
            Some(result) if !again => {
                Some(Verb::Complete(Box::new(Completion::new().result(self.unstorable(&result, error)))))
            }
            Some(result) => {
                // To run the task again would end the same way.
                tracing::error!(id = %result.meta.task_id, error = %error.report(), "a task stays without a result");
                Some(Verb::Ack)
            }
            None => {
                tracing::error!(error = %error.report(), "a task could not be settled; it will be delivered again");
                None
            }
        }
    }

    /// The failure to store instead of a result that the backend refuses: without anything that may be what it refuses.
    fn unstorable(&self, result: &StoreResult, error: &Error) -> StoreResult {
        tracing::error!(id = %result.meta.task_id, error = %error.report(), "a result could not be stored");
        let failure = TaskFailure::new("celeriac", "ResultNotStored", error.report());
        let mut stored = result.clone();
        stored.meta.state = TaskState::Failure;
        stored.meta.result = crate::process::failure_payload(self.failure_format.as_ref(), &failure);
        stored.meta.children = Some(Vec::new());
        stored.meta.extended = Map::new();
        stored.meta.traceback = None;
        stored
    }
}

/// Whether an error of this kind is about one settlement, and not about the broker as a whole.
fn blames_one(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Config | ErrorKind::Malformed | ErrorKind::NotFound | ErrorKind::TooLarge | ErrorKind::Unsupported
    )
}

/// Waits between tries, longer each time.
struct Tries<'a> {
    cold: &'a CancellationToken,
    wait: Duration,
    /// Tries that failed for no reason that waiting is known to cure.
    strange: u32,
}

impl<'a> Tries<'a> {
    fn new(cold: &'a CancellationToken) -> Self {
        Self { cold, wait: Duration::from_millis(50), strange: 0 }
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// `error`, if there is to be none.
    async fn again(&mut self, what: &'static str, error: Error) -> Result<(), Error> {
        if !error.is_retryable() {
            self.strange += 1;
        }
        if blames_one(error.kind()) || self.strange > 5 || self.cold.is_cancelled() {
            tracing::error!(error = %error.report(), "{what}; what is not acknowledged yet will be delivered again");
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use celeriac_broker::{Settle, Settlement};
    use celeriac_serializer::Json;
    use tokio::sync::Barrier;

    use super::*;

    /// Settles once so many batches are under way.
    #[derive(Debug)]
    struct Together {
        batches: Barrier,
        sizes: std::sync::Mutex<Vec<usize>>,
    }

    #[async_trait]
    impl Settle for Together {
        async fn settle(&self, batch: &mut Vec<Settlement>) -> Result<(), Error> {
            self.sizes.lock().unwrap().push(batch.len());
            self.batches.wait().await;
            batch.clear();
            Ok(())
        }

        fn abandon(&self, tag: DeliveryTag) {
            panic!("{tag:?} was not settled");
        }
    }

    async fn settled(tasks: u64, at_once: usize, atomic: bool) -> Vec<usize> {
        let store = Arc::new(Together { batches: Barrier::new(at_once), sizes: std::sync::Mutex::default() });
        let (sender, ended) = mpsc::channel(BATCH);
        for tag in 0..tasks {
            let receipt = Receipt::new(DeliveryTag(tag), Arc::<Together>::clone(&store));
            sender.send(Done::new(Some(receipt), End::Ack)).await.unwrap();
        }
        drop(sender);
        let cold = CancellationToken::new();
        let finisher = Finisher { atomic, backend: None, failure_format: Arc::new(Json), cold };
        tokio::time::timeout(Duration::from_secs(60), finisher.run(ended)).await.unwrap();
        std::mem::take(&mut store.sizes.lock().unwrap())
    }

    #[tokio::test]
    async fn many_that_end_at_once_are_two_batches_under_way_together() {
        assert_eq!(settled(100, 2, true).await, [50, 50]);
    }

    #[tokio::test]
    async fn where_results_are_elsewhere_one_batch_is_under_way_so_that_acknowledgements_keep_their_order() {
        assert_eq!(settled(100, 1, false).await, [100]);
    }

    #[tokio::test]
    async fn few_that_end_at_once_are_one_batch() {
        assert_eq!(settled(40, 1, true).await, [40]);
    }
}
