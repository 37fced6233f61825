//! How deliveries end.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use celeriac_broker::{DeliveryTag, Outgoing, Requeue, Settle, Settlement, Verb};
use celeriac_core::{Error, ErrorKind, Result};
use futures_util::future::{OptionFuture, join_all};

use crate::consumer::session::End;
use crate::store::Inner;

const SETTLE: &str = "settle";

/// Settles what the consumers of a handle hold.
pub(crate) struct Settler {
    inner: Arc<Inner>,
}

/// What one settlement takes.
struct Plan {
    /// Published, and confirmed, before the delivery ends.
    publish: Vec<Outgoing>,
    end: End,
}

impl Settler {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// What `verb` takes; `None` if the delivery is not held.
    fn plan(&self, tag: DeliveryTag, verb: &Verb) -> Result<Option<Plan>> {
        let plain = |end| Plan { publish: Vec::new(), end };
        let after = |publish| Plan { publish, end: End::Ack };
        Ok(Some(match verb {
            // Whether it is held shows when it ends.
            Verb::Ack => plain(End::Ack),
            Verb::Reject(Requeue::Yes) => plain(End::Requeue),
            Verb::Reject(Requeue::No) => match self.inner.held.look_up_copy(tag) {
                Some((taken, queue)) => {
                    // RabbitMQ would reject the copy by its shelter, and not by its queue.
                    let to = self.inner.topology.dead_letters(&queue);
                    let dead = to.map(|(exchange, key)| taken.dead(exchange, key));
                    after(dead.into_iter().collect())
                }
                None => plain(End::Drop),
            },
            _ => {
                if !self.inner.held.holds(tag) {
                    return Ok(None);
                }
                match verb {
                    Verb::Park(until) => match self.inner.held.look_up(tag) {
                        Some((taken, queue)) => after(vec![taken.parked(&queue, *until)]),
                        None => return Ok(None),
                    },
                    Verb::Complete(done) if done.result.is_none() => after(done.next.clone()),
                    Verb::Complete(_) => {
                        return Err(Error::unsupported(SETTLE, "RabbitMQ keeps no results with its messages"));
                    }
                    _ => return Err(Error::unsupported(SETTLE, format!("RabbitMQ cannot do {verb:?}"))),
                }
            }
        }))
    }

    /// Settles each one for itself: whether it was held, or why it is not done.
    async fn carry_out(&self, batch: &[&Settlement]) -> Vec<Result<bool>> {
        let mut plans: Vec<_> = batch.iter().map(|one| self.plan(one.tag, &one.verb)).collect();
        // All at once: each waits for the server's confirmation.
        let publish = |plan: &mut Result<Option<Plan>>| {
            let messages = match plan {
                Ok(Some(plan)) => std::mem::take(&mut plan.publish),
                _ => Vec::new(),
            };
            let publishes = (!messages.is_empty()).then(|| self.inner.publisher.publish_for_long(SETTLE, messages));
            OptionFuture::from(publishes)
        };
        let published = join_all(plans.iter_mut().map(publish)).await;
        for ((one, plan), published) in batch.iter().zip(&mut plans).zip(published) {
            let Some(Err(error)) = published else { continue };
            // RabbitMQ drops what is rejected and leads nowhere.
            if error.kind() != ErrorKind::NotFound || !matches!(one.verb, Verb::Reject(_)) {
                *plan = Err(error);
            }
        }
        let end =
            |(one, plan): (&&Settlement, &Result<Option<Plan>>)| Some((one.tag, plan.as_ref().ok()?.as_ref()?.end));
        let ends: Vec<_> = batch.iter().zip(&plans).filter_map(end).collect();
        let mut held = self.inner.held.settle(&ends).into_iter();
        plans.into_iter().map(|plan| Ok(plan?.is_some() && held.next() == Some(true))).collect()
    }
}

impl fmt::Debug for Settler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Settler").field(&*self.inner).finish()
    }
}

#[async_trait]
impl Settle for Settler {
    async fn settle(&self, batch: &mut Vec<Settlement>) -> Result<()> {
        let mut outcomes = self.carry_out(&batch.iter().collect::<Vec<_>>()).await;
        // What came to be held as a copy meanwhile is to be rejected as one.
        let is_copy = |one: &Settlement| {
            matches!(one.verb, Verb::Reject(Requeue::No)) && self.inner.held.look_up_copy(one.tag).is_some()
        };
        for (one, outcome) in batch.iter().zip(&mut outcomes) {
            if matches!(outcome, Ok(false)) && is_copy(one) {
                *outcome = self.carry_out(&[one]).await.pop().unwrap_or(Ok(false));
            }
        }
        let failed = outcomes.iter().any(Result::is_err);
        let mut first = Ok(());
        let mut outcomes = outcomes.into_iter();
        batch.retain(|_| match outcomes.next() {
            Some(Err(error)) => {
                if first.is_ok() {
                    first = Err(error);
                }
                true
            }
            Some(Ok(held)) => !held && !failed,
            None => false,
        });
        first
    }

    fn abandon(&self, tag: DeliveryTag) {
        self.inner.held.settle(&[(tag, End::Requeue)]);
    }
}
