//! How deliveries end.

use std::sync::Arc;

use async_trait::async_trait;
use celeriac_broker::{DeliveryTag, Requeue, Settle, Settled, Settlement, Verb};
use celeriac_core::{Error, ErrorKind, Result};

use crate::error::{Fault, Outcome};
use crate::handback::{Back, HandBack};
use crate::publish::{Parcel, Place, handed_back};
use crate::record::Record;
use crate::store::{Half, Inner};
use crate::txn::Txn;
use crate::writer::{Call, Order};

pub(crate) struct Settler {
    inner: Arc<Inner>,
}

impl Settler {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }
}

impl std::fmt::Debug for Settler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Settler").field(&self.inner.shared.place.path).finish()
    }
}

/// A settlement, ready to be written.
enum End {
    Ack,
    Requeue,
    Drop,
    Park(i64),
    Complete { result: Option<Record>, next: Vec<Parcel> },
}

impl End {
    fn new(verb: &Verb, max_bytes: usize) -> Result<Self> {
        Ok(match verb {
            Verb::Ack => Self::Ack,
            Verb::Reject(Requeue::Yes) => Self::Requeue,
            Verb::Reject(Requeue::No) => Self::Drop,
            Verb::Park(until) => Self::Park(until.as_micros()),
            Verb::Complete(done) => Self::Complete {
                result: done.result.clone().map(|result| Record::new(result, max_bytes)).transpose()?,
                next: done.next.iter().map(|next| Parcel::new(next, max_bytes)).collect::<Result<_>>()?,
            },
            _ => return Err(Error::unsupported("settle", format!("{verb:?} is not known"))),
        })
    }

    fn weight(&self) -> usize {
        match self {
            Self::Complete { result, next } => {
                1 + result.as_ref().map_or(0, Record::weight) + next.iter().map(Parcel::weight).sum::<usize>()
            }
            Self::Ack | Self::Requeue | Self::Drop | Self::Park(_) => 1,
        }
    }
}

#[async_trait]
impl Settle for Settler {
    async fn settle(&self, batch: &mut Vec<Settlement>) -> Result<()> {
        if self.inner.is_closed(Half::Broker) {
            // Everything was handed back: nothing is held any more, and all of it is passed over.
            return Ok(());
        }
        let max_bytes = self.inner.shared.config.max_message_bytes;
        let ends: Vec<(i64, Result<End>)> = batch
            .iter()
            .map(|settlement| (settlement.tag.0.cast_signed(), End::new(&settlement.verb, max_bytes)))
            .collect();
        let weight = ends.iter().map(|(_, end)| end.as_ref().map_or(1, End::weight)).sum();
        let (job, answer) = Call::new("settle", move |txn| {
            let mut lost = Vec::new();
            for (at, (tag, end)) in ends.into_iter().enumerate() {
                let settled = match end {
                    Ok(end) => txn.settle(tag, &end)?,
                    // Passed over if it is not held, whatever it says.
                    Err(error) if txn.holds(tag)? => Err(error),
                    Err(_) => Ok(Settled::Lost),
                };
                match settled {
                    Ok(Settled::Done) => {}
                    Ok(Settled::Lost) => lost.push(tag),
                    // What came before it is committed; it wrote nothing.
                    Err(error) => return Ok(Err((at, error))),
                }
            }
            Ok(Ok(lost))
        });
        match self.inner.call("settle", (job.weighing(weight), answer)).await? {
            Ok(lost) => {
                // Both are in the order of the batch.
                let mut lost = lost.into_iter().peekable();
                batch.retain(|settlement| lost.next_if_eq(&settlement.tag.0.cast_signed()).is_some());
                Ok(())
            }
            Err((at, error)) => {
                batch.drain(..at);
                Err(error)
            }
        }
    }

    fn abandon(&self, tag: DeliveryTag) {
        if let Ok(orders) = self.inner.orders("abandon") {
            let back = vec![Back::Delivery(tag.0.cast_signed())];
            let job = HandBack::new("abandon", &self.inner.shared, back);
            // Without a writer everything was handed back already.
            let _ = orders.send(Order::Job(Box::new(job)));
        }
    }
}

impl Txn<'_> {
    /// The inner error is of a settlement that wrote nothing; the outer one spoils the whole transaction.
    fn settle(&mut self, tag: i64, end: &End) -> Outcome<Result<Settled>> {
        if matches!(end, End::Requeue) {
            let held = self.release(tag)?;
            return match held {
                Some(place) => {
                    self.put_back(Place { rank: handed_back(place.rank), ..place }, self.now)?;
                    Ok(Ok(Settled::Done))
                }
                None => Ok(Ok(Settled::Lost)),
            };
        }
        if let End::Complete { next, .. } = end {
            // Looked up before anything is written, for a settlement is carried out wholly or not at all.
            for parcel in next {
                match self.check_route(parcel) {
                    Ok(()) => {}
                    Err(Fault::Said(error)) if error.kind() == ErrorKind::NotFound => {
                        return Ok(if self.holds(tag)? { Err(error) } else { Ok(Settled::Lost) });
                    }
                    Err(fault) => return Err(fault),
                }
            }
        }
        let Some(place) = self.release(tag)? else { return Ok(Ok(Settled::Lost)) };
        match end {
            End::Park(until) => self.put_back(Place { deliveries: place.deliveries - 1, ..place }, *until),
            End::Ack | End::Drop | End::Requeue => self.delete_message(place.message),
            End::Complete { result, next } => {
                next.iter().try_for_each(|parcel| self.publish(parcel))?;
                result.iter().try_for_each(|record| self.store(record))?;
                self.delete_message(place.message)
            }
        }?;
        Ok(Ok(Settled::Done))
    }

    fn holds(&self, tag: i64) -> Outcome<bool> {
        let sql = "SELECT 1 FROM held WHERE owner = ?1 AND tag = ?2";
        Ok(self.connection.prepare_cached(sql)?.exists((self.my_id(), tag))?)
    }
}
