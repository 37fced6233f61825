//! How deliveries end.

use std::sync::Arc;

use async_trait::async_trait;
use celeriac_broker::{DeliveryTag, Requeue, Settle, Settlement, Verb};
use celeriac_core::{Error, ErrorKind, Result};

use crate::error::{Fault, Outcome, again};
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
            let settled = txn.settle(&ends)?;
            // Dropped here, not by the writer.
            Ok((settled, ends))
        });
        let (Batch { lost, refused }, _) = self.inner.call("settle", (job.weighing(weight), answer)).await?;
        match refused {
            None => {
                // Both are in the order of the batch.
                let mut lost = lost.into_iter().peekable();
                batch.retain(|settlement| lost.next_if_eq(&settlement.tag.0.cast_signed()).is_some());
                Ok(())
            }
            Some((at, error)) => {
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

/// What became of a batch of settlements.
struct Batch {
    /// Those that were not held any more, in their order.
    lost: Vec<i64>,
    /// The first that is refused, by its place in the batch; nothing was done from there on.
    refused: Option<(usize, Error)>,
}

impl Txn<'_> {
    /// Settles up to the first that is refused, which is looked for before anything is written. An error spoils the whole transaction.
    fn settle(&mut self, ends: &[(i64, Result<End>)]) -> Outcome<Batch> {
        let mut held = self.held(ends.iter().map(|(tag, _)| *tag).collect())?;
        let mut batch = Batch { lost: Vec::new(), refused: None };
        let mut settled = Vec::with_capacity(ends.len());
        for (at, (tag, end)) in ends.iter().enumerate() {
            let found = held.binary_search_by_key(tag, |(tag, _)| *tag).ok();
            let Some(place) = found.and_then(|found| held.get_mut(found)?.1.take()) else {
                // Passed over, whatever it says.
                batch.lost.push(*tag);
                continue;
            };
            match self.check(end)? {
                Ok(end) => settled.push((*tag, place, end)),
                Err(error) => {
                    batch.refused = Some((at, error));
                    break;
                }
            }
        }
        self.release_all(settled.iter().map(|(tag, ..)| *tag).collect())?;
        let mut done = Vec::with_capacity(settled.len());
        for (_, place, end) in settled {
            match end {
                End::Requeue => self.put_back(Place { rank: handed_back(place.rank), ..place }, self.now)?,
                End::Park(until) => self.put_back(Place { deliveries: place.deliveries - 1, ..place }, *until)?,
                End::Ack | End::Drop => done.push(place.message),
                End::Complete { result, next } => {
                    next.iter().try_for_each(|parcel| self.publish(parcel))?;
                    result.iter().try_for_each(|record| self.store(record))?;
                    done.push(place.message);
                }
            }
        }
        self.delete_messages(done)?;
        Ok(batch)
    }

    /// Whether this can be carried out: wholly or not at all.
    fn check<'a>(&mut self, end: &'a Result<End>) -> Outcome<Result<&'a End>> {
        let end = match end {
            Ok(end) => end,
            Err(error) => return Ok(Err(again(error))),
        };
        if let End::Complete { next, .. } = end {
            for parcel in next {
                match self.check_route(parcel) {
                    Ok(()) => {}
                    Err(Fault::Said(error)) if error.kind() == ErrorKind::NotFound => return Ok(Err(error)),
                    Err(fault) => return Err(fault),
                }
            }
        }
        Ok(Ok(end))
    }
}
