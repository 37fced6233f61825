//! How deliveries end: one script for a batch, which stores results and publishes what follows too.

use std::sync::Arc;

use async_trait::async_trait;
use celeriac_broker::{Completion, DeliveryTag, Requeue, Settle, Settlement, Verb};
use celeriac_core::{Error, Result, StoreResult, TaskId, TaskState};
use deadpool_redis::redis::{self, Value, cmd};

use crate::args::Args;
use crate::error::{passing, script_failed, unexpected};
use crate::held::Entry;
use crate::keys::{MOST_ASIDE, SEPARATOR};
use crate::link::Link;
use crate::push::{Exchanges, Pushes};
use crate::script;
use crate::store::{Half, Inner, Shared};
use crate::topology;
use crate::wire::envelope::{self, Stamp};
use crate::wire::meta;

const SETTLE: &str = "settle";

/// The most entries, and about the most bytes, of one call: the server serves nobody else meanwhile.
const MOST: usize = 512;
/// The most deliveries that are read and written back by one call: each may be large.
const AT_ONCE: usize = 64;
const MOST_BYTES: usize = 4 << 20;

/// Entries for the script, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Entries {
    args: Args,
    /// The place of each one's first argument.
    starts: Vec<usize>,
    /// Whether any of them must not be done twice.
    marked: bool,
}

impl Entries {
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.args.bytes()
    }

    /// Whether one call should not be told more.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= MOST || self.bytes() >= MOST_BYTES
    }

    fn begin(&mut self, kind: &str) -> &mut Args {
        self.marked |= kind != "put";
        self.starts.push(self.args.len());
        self.args.push(kind);
        &mut self.args
    }

    fn ack(&mut self, tag: &str) {
        self.begin("ack").push(tag);
    }

    /// A result alone.
    pub(crate) fn put(&mut self, record: &Args) {
        self.begin("put").append(record);
    }

    fn done(&mut self, tag: &str, record: &Args) {
        let args = self.begin("done");
        args.push(tag);
        args.append(record);
    }

    /// The general case: the end of a delivery, if one ends, results and messages.
    fn end(&mut self, tag: &str, end: &Args, record: Option<&Args>, pushes: &[Pushes]) {
        let args = self.begin("end");
        args.push(tag);
        args.append(end);
        args.push(if record.is_some() { "1" } else { "0" });
        if let Some(record) = record {
            args.append(record);
        }
        args.push_shown(pushes.iter().map(|pushes| pushes.count).sum::<usize>());
        pushes.iter().for_each(|pushes| args.append(&pushes.args));
    }

    /// A message alone.
    pub(crate) fn publish(&mut self, pushes: &Pushes) {
        let mut end = Args::default();
        end.push("ack");
        self.end("", &end, None, std::slice::from_ref(pushes));
    }

    /// A delivery that goes back to `list`, and in copy to `others`. `found` is the score in the index that it was found to be lost by; it is
    /// passed over if that is another now. Empty for one that is held here.
    pub(crate) fn back(
        &mut self,
        tag: &str,
        found: &str,
        (list, others): (&str, &[String]),
        order: u64,
        envelope: &[u8],
    ) {
        let mut end = Args::default();
        end.push("back");
        end.push(list);
        end.push_shown(order);
        end.push(envelope);
        end.push(found);
        let mut copies = Pushes { count: others.len(), ..Pushes::default() };
        for other in others {
            copies.args.push("list");
            copies.args.push(other);
            copies.args.push(envelope);
        }
        self.end(tag, &end, None, std::slice::from_ref(&copies));
    }

    /// Has the server carry them out, each once, however often the connection breaks.
    pub(crate) async fn carry_out(self, shared: &Shared, link: &Link, operation: &'static str) -> Result<Outcome> {
        let (mut whole, mut known) = (Outcome::default(), Compressed::default());
        while whole.done < self.len() && whole.wrong.is_none() {
            let told = match self.call(shared, link, operation, whole.done, &known).await {
                Ok(told) => told,
                Err(error) if whole.done == 0 => return Err(error),
                Err(error) => Outcome { wrong: Some(error), of_all: true, ..Outcome::default() },
            };
            whole.lost.extend(told.lost.iter().map(|place| whole.done + place));
            whole.done += told.done;
            whole.of_all = told.of_all;
            whole.wrong = match told.asked {
                Some(key) => known.learn(shared, link, operation, key).await.err(),
                None => told.wrong,
            };
        }
        Ok(whole)
    }

    /// As [`Entries::carry_out`], for what may not fail: whatever is wrong for all entries alike, be it a password, may be cured while
    /// the caller waits, and is told as something that passes.
    pub(crate) async fn carry_out_in_the_end(
        self,
        shared: &Shared,
        link: &Link,
        operation: &'static str,
    ) -> Result<Outcome> {
        let mut outcome = self.carry_out(shared, link, operation).await.map_err(passing)?;
        if outcome.of_all {
            outcome.wrong = outcome.wrong.map(passing);
        }
        Ok(outcome)
    }

    /// As [`Entries::carry_out`], but each by itself: one that goes wrong is passed over. How many were carried out; the first error if none was.
    pub(crate) async fn carry_out_each(self, shared: &Shared, link: &Link, operation: &'static str) -> Result<usize> {
        let (mut rest, mut done, mut failed) = (self, 0, None);
        while rest.len() > 0 {
            let next = rest.clone();
            let outcome = next.carry_out(shared, link, operation).await?;
            done += outcome.done - outcome.lost.len();
            let Some(error) = outcome.wrong else { break };
            tracing::error!(error = %error.report(), "a message cannot go back to its queue for now");
            failed.get_or_insert(error);
            rest = rest.after(outcome.done + 1);
        }
        match failed {
            Some(error) if done == 0 => Err(error),
            _ => Ok(done),
        }
    }

    /// Those from place `from` on.
    fn after(&self, from: usize) -> Self {
        let mut rest = Self { marked: self.marked, ..Self::default() };
        if let Some(start) = self.starts.get(from) {
            self.args.iter().skip(*start).for_each(|argument| rest.args.push(argument));
            rest.starts = self.starts.iter().skip(from).map(|place| place - start).collect();
        }
        rest
    }

    /// One call, for those from place `from` on.
    async fn call(
        &self,
        shared: &Shared,
        link: &Link,
        operation: &'static str,
        from: usize,
        known: &Compressed,
    ) -> Result<Outcome> {
        let (slot, keys) = (shared.slots.take(), &shared.keys);
        let command = |again: bool| {
            let mut command = script::SETTLE.call();
            command.arg(5).arg(&keys.unacked).arg(&keys.unacked_index).arg(&shared.marks);
            command.arg(&keys.parked_index).arg(&keys.workers);
            // Results alone leave no mark: they may be stored twice.
            command.arg(if self.marked { slot.name() } else { String::new() });
            command.arg(slot.call()).arg(if again && self.marked { "1" } else { "0" });
            command.arg(SEPARATOR).arg(&keys.due_channel);
            command.arg(known.count);
            known.args.write(&mut command);
            self.args.iter().skip(self.starts.get(from).copied().unwrap_or(0)).for_each(|argument| {
                command.arg(argument);
            });
            command
        };
        Outcome::read(operation, link.once(operation, command).await?)
    }
}

/// The states of compressed records, which no script can read: what is asked for once one is in the way of another.
#[derive(Debug, Default)]
struct Compressed {
    args: Args,
    count: usize,
}

impl Compressed {
    async fn learn(&mut self, shared: &Shared, link: &Link, operation: &'static str, key: String) -> Result<()> {
        let value = link.query(operation, cmd("GET").arg(&key)).await?;
        let value: Option<Vec<u8>> = redis::from_redis_value(value).map_err(|error| unexpected(operation, error))?;
        // One that expired meanwhile is in nobody's way.
        let Some(value) = value else { return Ok(()) };
        // What cannot be read is no success to anybody.
        let unknown = TaskId::from_static("?");
        let state = meta::decode(Some(&unknown), &value, shared.config.max_message_bytes).map(|meta| meta.state);
        self.args.push(key);
        self.args.push(value);
        self.args.push(state.as_ref().map_or("", TaskState::as_str));
        self.count += 1;
        Ok(())
    }
}

/// What became of a call's entries.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many were carried out, or passed over.
    pub(crate) done: usize,
    /// The places of those passed over.
    pub(crate) lost: Vec<usize>,
    /// What went wrong with the one after those done.
    pub(crate) wrong: Option<Error>,
    /// Whether that is wrong for every other entry too.
    of_all: bool,
    /// The key of a compressed record, whose state the script has to be told before it goes on.
    asked: Option<String>,
}

impl Outcome {
    fn read(operation: &'static str, answer: Value) -> Result<Self> {
        let (done, lost, wrong): (usize, Vec<usize>, String) =
            redis::from_redis_value(answer).map_err(|error| unexpected(operation, error))?;
        let asked = wrong.strip_prefix('\0').map(str::to_owned);
        let (of_all, wrong) = wrong.strip_prefix('!').map_or((false, &*wrong), |wrong| (true, wrong));
        let wrong = (asked.is_none() && !wrong.is_empty()).then(|| script_failed(operation, wrong));
        Ok(Self { done, lost, wrong, of_all, asked })
    }

    /// # Errors
    /// What went wrong.
    pub(crate) fn complete(self) -> Result<()> {
        self.wrong.map_or(Ok(()), Err)
    }
}

impl Shared {
    /// What the script is told of a result.
    ///
    /// # Errors
    /// `TooLarge` naming the task; what the format says.
    pub(crate) fn record(&self, operation: &'static str, result: &StoreResult) -> Result<Args> {
        let meta = &result.meta;
        let mut args = Args::default();
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
        })?;
        Ok(args)
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
                    entries.hand_back(&self.held.tag(*number), entry, &envelope);
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
    fn hand_back(&mut self, tag: &str, entry: &Entry, value: &[u8]) {
        let source = &entry.source;
        let envelope = source.envelope(value);
        let stamp = Stamp { order: entry.order, deliveries: entry.deliveries };
        self.back(tag, "", (&source.list, &[]), entry.order, &envelope::handed_back(envelope, stamp));
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
                Some(value) => entries.hand_back(&tag, entry, value),
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
                let record = result.as_ref().map(|result| shared.record(SETTLE, result)).transpose()?;
                match (record, next.is_empty()) {
                    (None, true) => entries.ack(&tag),
                    (Some(record), true) => entries.done(&tag, &record),
                    (record, false) => {
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
        let mut outcome = Outcome { done: batch.len(), ..Outcome::default() };
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
