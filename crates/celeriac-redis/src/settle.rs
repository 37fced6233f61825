//! How deliveries end: one script for a batch, which stores results and publishes what follows too.

use std::sync::Arc;

use async_trait::async_trait;
use celeriac_broker::{Completion, DeliveryTag, Requeue, Settle, Settlement, Verb};
use celeriac_core::{Error, Result, StoreResult};
use deadpool_redis::redis::{self, cmd};

use crate::args::Args;
use crate::entries::{Entries, MOST, MOST_BYTES, Outcome};
use crate::error::{passing, unexpected};
use crate::held::Entry;
use crate::keys::MOST_ASIDE;
use crate::link::Link;
use crate::push::Exchanges;
use crate::store::{Half, Inner, Shared};
use crate::topology;
use crate::wire::envelope::{self, Stamp};
use crate::wire::meta;

const SETTLE: &str = "settle";

/// The most deliveries that are read and written back by one call: each may be large.
const AT_ONCE: usize = 64;

impl Shared {
    /// Adds what the script is told of a result.
    ///
    /// # Errors
    /// `TooLarge` naming the task; what the format says. Some of it may have been added by then.
    pub(crate) fn record(&self, operation: &'static str, result: &StoreResult, args: &mut Args) -> Result<()> {
        let meta = &result.meta;
        args.push(self.keys.record(meta.task_id.as_str()));
        args.push(if meta.state.is_ready() { "1" } else { "0" });
        match result.expires {
            None => args.push(""),
            Some(life) => args.push_shown(life.as_millis().clamp(1, i64::MAX as u128 / 2)),
        }
        args.push_with(|out| {
            let start = out.len();
            meta::encode(meta, out)?;
            self.check_size(operation, out.len() - start, || format!("the result of task `{}`", meta.task_id))
        })
    }

    /// Hands deliveries back: each to its list, before the others.
    ///
    /// # Errors
    /// The first, once all that can go back have.
    pub(crate) async fn hand_back(
        &self,
        link: &Link,
        operation: &'static str,
        mut held: Vec<(u64, Entry)>,
    ) -> Result<()> {
        // The latest first: then each finds its place at once.
        held.sort_unstable_by_key(|(_, entry)| std::cmp::Reverse(entry.order));
        let mut failed = None;
        for chunk in held.chunks(AT_ONCE) {
            let envelopes = self.envelopes(link, operation, chunk.iter().map(|(number, _)| *number)).await?;
            let mut entries = Entries::default();
            for ((number, entry), envelope) in chunk.iter().zip(envelopes) {
                if let Some(envelope) = envelope {
                    entries.hand_back(&self.held.tag(*number), *number, entry, &envelope);
                }
            }
            if let Err(error) = entries.carry_out_each(self, link, operation).await {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The envelopes of what is held, as they were taken.
    async fn envelopes(
        &self,
        link: &Link,
        operation: &'static str,
        numbers: impl Iterator<Item = u64>,
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let mut command = cmd("HMGET");
        command.arg(&self.keys.unacked);
        numbers.for_each(|number| {
            command.arg(self.held.tag(number));
        });
        let values = link.query(operation, &command).await?;
        redis::from_redis_value(values).map_err(|error| unexpected(operation, error))
    }
}

impl Entries {
    /// `value` is what `unacked` has of it.
    fn hand_back(&mut self, tag: &str, number: u64, entry: &Entry, value: &[u8]) {
        let source = &entry.source;
        let envelope = source.envelope(value);
        let envelope = if entry.unseen {
            envelope::stamped(envelope, &entry.first_stamp(number))
        } else {
            envelope::handed_back(envelope, Stamp { order: entry.order, deliveries: entry.deliveries })
        };
        self.back(tag, "", (&source.list, &[]), entry.order, &envelope);
    }
}

/// Settles for one handle and all its consumers.
pub(crate) struct Settler {
    inner: Arc<Inner>,
}

impl Settler {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// Adds what a settlement comes to. `value` is what `unacked` has of it, where it goes back.
    fn add(
        &self,
        entries: &mut Entries,
        settlement: &Settlement,
        entry: &Entry,
        value: Option<&[u8]>,
        exchanges: &Exchanges,
    ) -> Result<()> {
        let shared = &self.inner.shared;
        let tag = shared.held.tag(settlement.tag.0);
        match &settlement.verb {
            Verb::Ack => entries.ack(&tag),
            Verb::Reject(Requeue::No) => match &entry.unreadable {
                None => entries.ack(&tag),
                Some(reason) => {
                    let mut end = Args::default();
                    end.push("aside");
                    end.push(&shared.keys.aside);
                    end.push_shown(MOST_ASIDE);
                    end.push(shared.note(entry, reason, value));
                    entries.end(&tag, &end, None, &[]);
                }
            },
            Verb::Reject(Requeue::Yes) => match value {
                Some(value) => entries.hand_back(&tag, settlement.tag.0, entry, value),
                // Gone by now: the script passes it over.
                None => entries.ack(&tag),
            },
            Verb::Park(until) => {
                let source = &entry.source;
                let mut end = Args::default();
                end.push("park");
                end.push(source.queue.as_str());
                end.push(&source.plain);
                end.push(&source.parked);
                end.push_shown(until.as_micros());
                end.push_shown(source.step);
                end.push(shared.unique());
                end.push_shown(entry.order);
                end.push(entry.first_stamp(settlement.tag.0));
                end.push_shown(source.tail.len());
                entries.end(&tag, &end, None, &[]);
            }
            Verb::Complete(done) => {
                let Completion { result, next, .. } = &**done;
                match (result, next.is_empty()) {
                    (None, true) => entries.ack(&tag),
                    (Some(result), true) => entries.done(&tag, |args| shared.record(SETTLE, result, args))?,
                    (result, false) => {
                        let record = result.as_ref().map(|result| {
                            let mut record = Args::default();
                            shared.record(SETTLE, result, &mut record).map(|()| record)
                        });
                        let record = record.transpose()?;
                        let pushes = next
                            .iter()
                            .map(|next| shared.pushes(SETTLE, next, exchanges))
                            .collect::<Result<Vec<_>>>()?;
                        let mut end = Args::default();
                        end.push("ack");
                        entries.end(&tag, &end, record.as_ref(), &pushes);
                    }
                }
            }
            verb => return Err(Error::unsupported(SETTLE, format!("{verb:?} is not known"))),
        }
        Ok(())
    }

    /// Settles a run of moderate size. Returns how many were done or passed over, the places of the latter, and what went wrong with the next.
    async fn run(&self, batch: &[Settlement]) -> Result<Outcome> {
        let (shared, link) = (&self.inner.shared, &self.inner.link);
        let held = shared.held.settling(batch.iter().map(|settlement| settlement.tag.0));
        let follow = batch.iter().filter_map(|settlement| match &settlement.verb {
            Verb::Complete(done) => Some(done.next.iter()),
            _ => None,
        });
        let exchanges = topology::exchanges(shared, link, SETTLE, topology::named(follow.flatten())).await?;
        // What goes back, or is kept aside, is read first.
        let wanted = |settlement: &Settlement, entry: &Option<Entry>| match settlement.verb {
            Verb::Reject(Requeue::Yes) => true,
            Verb::Reject(Requeue::No) => entry.as_ref().is_some_and(|entry| entry.unreadable.is_some()),
            _ => false,
        };
        let rejected = batch.iter().zip(&held).filter(|(settlement, entry)| wanted(settlement, entry));
        let rejected: Vec<u64> = rejected.map(|(settlement, _)| settlement.tag.0).collect();
        let values = match rejected.is_empty() {
            true => Vec::new(),
            false => shared.envelopes(link, SETTLE, rejected.iter().copied()).await.map_err(passing)?,
        };
        let mut values = values.into_iter();

        let mut entries = Entries::default();
        // The places in the batch of what the script is told.
        let mut places = Vec::with_capacity(batch.len());
        let mut outcome = Outcome::all(batch.len());
        for (place, (settlement, entry)) in batch.iter().zip(&held).enumerate() {
            let value = if wanted(settlement, entry) { values.next().flatten() } else { None };
            let Some(entry) = entry else {
                outcome.lost.push(place);
                continue;
            };
            if entries.bytes() >= MOST_BYTES {
                outcome.done = place;
                break;
            }
            match self.add(&mut entries, settlement, entry, value.as_deref(), &exchanges) {
                Ok(()) => places.push(place),
                Err(error) => {
                    (outcome.done, outcome.wrong) = (place, Some(error));
                    break;
                }
            }
        }
        let told = entries.carry_out_in_the_end(shared, link, SETTLE).await?;
        outcome.lost.extend(told.lost.iter().filter_map(|place| places.get(*place)));
        outcome.lost.sort_unstable();
        if let Some(error) = told.wrong {
            (outcome.done, outcome.wrong) = (places.get(told.done).copied().unwrap_or(outcome.done), Some(error));
        }
        outcome.lost.retain(|place| *place < outcome.done);
        Ok(outcome)
    }
}

#[async_trait]
impl Settle for Settler {
    async fn settle(&self, batch: &mut Vec<Settlement>) -> Result<()> {
        if self.inner.is_closed(Half::Broker) {
            // Everything was handed back: nothing is held any more, and all of it is passed over.
            return Ok(());
        }
        let held = &self.inner.shared.held;
        let (mut at, mut lost) = (0, Vec::new());
        let failed = loop {
            let run = batch.get(at..batch.len().min(at + MOST)).unwrap_or_default();
            if run.is_empty() {
                break None;
            }
            let numbers = |run: &[Settlement]| run.iter().map(|one| one.tag.0).collect::<Vec<_>>();
            match self.run(run).await {
                Err(error) => {
                    held.keep(numbers(run));
                    break Some(error);
                }
                Ok(outcome) => {
                    let (done, rest) = run.split_at(outcome.done.min(run.len()));
                    held.remove(numbers(done));
                    held.keep(numbers(rest));
                    lost.extend(outcome.lost.into_iter().map(|place| at + place));
                    at += done.len();
                    if outcome.wrong.is_some() {
                        break outcome.wrong;
                    }
                }
            }
        };
        match failed {
            None => {
                let (mut place, mut lost) = (0, lost.into_iter().peekable());
                batch.retain(|_| {
                    place += 1;
                    lost.next_if_eq(&(place - 1)).is_some()
                });
                Ok(())
            }
            Some(error) => {
                batch.drain(..at);
                Err(error)
            }
        }
    }

    fn abandon(&self, tag: DeliveryTag) {
        self.inner.hand_back_later(tag.0);
    }
}

impl std::fmt::Debug for Settler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Settler").field(&self.inner.shared.id).finish()
    }
}
