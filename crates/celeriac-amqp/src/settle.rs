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
                let Some((taken, queue)) = self.inner.held.look_up(tag) else { return Ok(None) };
                match verb {
                    Verb::Park(until) => after(vec![taken.parked(&queue, *until)]),
                    Verb::Complete(done) if done.result.is_none() => after(done.next.clone()),
                    Verb::Complete(_) => {
                        return Err(Error::unsupported(SETTLE, "RabbitMQ keeps no results with its messages"));
                    }
                    _ => return Err(Error::unsupported(SETTLE, format!("RabbitMQ cannot do {verb:?}"))),
                }
            }
        }))
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
        let mut plans = Vec::with_capacity(batch.len());
        let mut failed = None;
        for settlement in batch.iter() {
            match self.plan(settlement.tag, &settlement.verb) {
                Ok(plan) => plans.push(plan),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        // All at once: each waits for the server's confirmation.
        let publish = |plan: &mut Option<Plan>| {
            let messages = plan.as_mut().map(|plan| std::mem::take(&mut plan.publish)).filter(|next| !next.is_empty());
            OptionFuture::from(messages.map(|messages| self.inner.publisher.publish_for_long(SETTLE, messages)))
        };
        if plans.iter().flatten().any(|plan| !plan.publish.is_empty()) {
            let published = join_all(plans.iter_mut().map(publish)).await;
            let is_dead = |place: usize| batch.get(place).is_some_and(|one| matches!(one.verb, Verb::Reject(_)));
            let first = published.into_iter().enumerate().find_map(|(place, outcome)| {
                let error = outcome?.err()?;
                // RabbitMQ drops what is rejected and leads nowhere.
                let dropped = error.kind() == ErrorKind::NotFound && is_dead(place);
                (!dropped).then_some((place, error))
            });
            if let Some((place, error)) = first {
                plans.truncate(place);
                failed = Some(error);
            }
        }
        let ends: Vec<_> =
            batch.iter().zip(&plans).filter_map(|(one, plan)| Some((one.tag, plan.as_ref()?.end))).collect();
        let mut held = self.inner.held.settle(&ends).into_iter();
        let mut lost = plans.iter().map(|plan| plan.is_none() || held.next() == Some(false));
        match failed {
            None => {
                batch.retain(|_| lost.next().unwrap_or_default());
                Ok(())
            }
            Some(error) => {
                drop(lost);
                batch.drain(..plans.len());
                Err(error)
            }
        }
    }

    fn abandon(&self, tag: DeliveryTag) {
        self.inner.held.settle(&[(tag, End::Requeue)]);
    }
}
