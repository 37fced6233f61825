//! One channel of a consumer: what came by it and is not settled, and what may still come.
//!
//! It ends when its channel does: whatever was not settled by then is others'. A consumer that goes on has another one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_broker::{Delivery, DeliveryTag, Receipt, Settle};
use celeriac_core::{QueueName, Timestamp};
use futures_util::FutureExt as _;
use lapin::Channel;
use lapin::options::{BasicNackOptions, BasicQosOptions};
use lapin::types::ShortString;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::acks::{Acks, Came};
use super::line::Line;
use super::reading::Taken;
use super::state::{Entry, State};
use super::window::By;

/// What was not asked for within this time goes back, for others to take.
pub(crate) const HOARD: Duration = Duration::from_secs(1);
/// So many messages that are not due yet may be held beside those that are asked for.
const EARLY: usize = 10_000;

/// One channel, and what came by it.
pub(crate) struct Session {
    /// Names it among those of its handle.
    pub(crate) number: u32,
    pub(crate) channel: Channel,
    /// What the server calls its subscriptions, but for a number behind.
    name: String,
    /// More may come than before.
    pub(crate) demand: Notify,
    state: Mutex<State>,
}

/// How a delivery ends, as far as the channel is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Ack,
    Drop,
    /// Somebody had it, and does not want it.
    Requeue,
    /// Nobody had it.
    Return,
}

/// A subscription to be made.
pub(crate) struct Wish {
    pub(crate) line: usize,
    pub(crate) number: u64,
    pub(crate) tag: ShortString,
    pub(crate) prefetch: u16,
}

/// What may be fetched from a queue.
pub(crate) struct Fetch {
    pub(crate) line: usize,
    pub(crate) queue: QueueName,
    /// How many messages may come.
    pub(crate) room: usize,
}

impl Session {
    pub(crate) fn new(number: u32, channel: Channel, name: &str, lines: Vec<Line>) -> Self {
        let now = Instant::now();
        let state = State {
            over: false,
            retired: false,
            lines,
            unsettled: BTreeMap::new(),
            came: Came::default(),
            acks: Acks::default(),
            early: BTreeSet::new(),
            turn: 0,
            subscriptions: 0,
            full: false,
            asked_at: now,
            taken_at: now,
            waits_since: now,
            scarce: false,
        };
        Self { number, channel, name: name.to_owned(), demand: Notify::new(), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in between leaves the state as it was or as it should be.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up to `limit` of those that wait, each queue in its turn, and notes that messages are asked for.
    pub(crate) fn take(
        &self,
        limit: usize,
        settle: &Arc<dyn Settle>,
        name: impl Fn(u64) -> DeliveryTag,
    ) -> Vec<Delivery> {
        let mut state = self.lock();
        let now = Instant::now();
        state.asked_at = now;
        let mut deliveries = Vec::new();
        let mut empty = 0;
        while deliveries.len() < limit && empty < state.lines.len() {
            let turn = state.turn;
            state.turn = (turn + 1) % state.lines.len();
            match state.lines.get_mut(turn).and_then(Line::next) {
                None => empty += 1,
                Some(tag) => {
                    empty = 0;
                    deliveries.extend(state.delivery(tag, || Receipt::new(name(tag), Arc::clone(settle))));
                }
            }
        }
        if !deliveries.is_empty() {
            state.scarce &= now.duration_since(state.taken_at) > HOARD;
            state.taken_at = now;
        }
        deliveries
    }

    /// Notes what came, and lets it wait; what the consumer is gone for goes back. Whether the session holds something to be taken now.
    pub(crate) fn put(&self, came: impl IntoIterator<Item = (usize, By, u64, Taken)>) -> bool {
        let mut state = self.lock();
        if state.over {
            return false;
        }
        let mut back = Vec::new();
        let (retired, since) = (state.retired, Instant::now());
        if state.waiting() == 0 {
            state.waits_since = since;
        }
        for (line, by, tag, taken) in came {
            state.came.add(tag);
            let Some(into) = state.lines.get_mut(line) else { continue };
            into.window.delivered(by);
            // What was on its way when the queue went is nobody's.
            let unwanted = retired || into.gone;
            let early = taken.due.filter(|_| !unwanted && !taken.expired);
            if unwanted || taken.expired {
                back.push((tag, if unwanted { End::Return } else { End::Drop }));
            } else if let Some(due) = early {
                into.early += 1;
                state.early.insert((due, tag));
            } else {
                into.insert(tag);
            }
            state.unsettled.insert(tag, Entry { line, by, since, handed_out: false, early, parking: false, taken });
        }
        if !back.is_empty() {
            state.end(&self.channel, &back);
        }
        state.waiting() > 0
    }

    /// Lets what has become due wait to be taken. When the next will be; and whether something has.
    pub(crate) fn promote(&self, now: Timestamp) -> (Option<Timestamp>, bool) {
        let mut state = self.lock();
        let mut any = false;
        let waited = state.waiting() > 0;
        let State { early, lines, unsettled, .. } = &mut *state;
        while let Some((due, tag)) = early.first().copied().filter(|(due, _)| *due <= now) {
            early.remove(&(due, tag));
            let Some(entry) = unsettled.get_mut(&tag) else { continue };
            entry.early = None;
            if let Some(line) = lines.get_mut(entry.line) {
                line.early = line.early.saturating_sub(1);
                line.due.push_back(tag);
                any = true;
            }
        }
        if any && !waited {
            state.waits_since = Instant::now();
        }
        (state.early.first().map(|(due, _)| *due), any)
    }

    /// Begins to park those of these that are not due yet: what they are, and the queue that each came from.
    pub(crate) fn park(&self, tags: &[u64]) -> Vec<(u64, Taken, QueueName)> {
        let mut state = self.lock();
        let State { early, lines, unsettled, .. } = &mut *state;
        let begin = |tag: &u64| {
            let entry = unsettled.get_mut(tag)?;
            let (due, line) = (entry.early?, lines.get(entry.line)?);
            early.remove(&(due, *tag));
            entry.parking = true;
            Some((*tag, entry.taken.clone(), line.queue.clone()))
        };
        tags.iter().filter_map(begin).collect()
    }

    /// A message that was to be parked is; or, if that failed, it is held until it is due.
    pub(crate) fn parked(&self, tag: u64, done: bool) {
        if done {
            self.settle(&[(tag, End::Ack)]);
            return;
        }
        let mut state = self.lock();
        let State { early, unsettled, retired, .. } = &mut *state;
        let Some(entry) = unsettled.get_mut(&tag) else { return };
        entry.parking = false;
        if *retired {
            state.end(&self.channel, &[(tag, End::Return)]);
        } else {
            early.extend(entry.early.map(|due| (due, tag)));
            self.demand.notify_one();
        }
    }

    /// The subscriptions that are needed so that `asked` more messages may be handed out, with at most `most` on the way from each queue.
    pub(crate) fn wishes(&self, asked: usize, most: usize) -> Vec<Wish> {
        let mut state = self.lock();
        if state.over || state.retired {
            return Vec::new();
        }
        let share = state.share(asked);
        let mut wishes = Vec::new();
        let mut full = false;
        let mut number = state.subscriptions;
        for (place, line) in state.lines.iter().enumerate().filter(|(_, line)| !line.gone) {
            let wanted = if line.kept && line.window.active().next().is_none() { share.max(1) } else { share };
            match line.window.growth(wanted, most + line.early.min(EARLY)) {
                Some(prefetch) => {
                    number += 1;
                    wishes.push(Wish { line: place, number, tag: format!("{}.{number}", self.name).into(), prefetch });
                }
                None => full |= line.window.is_full(wanted),
            }
        }
        (state.subscriptions, state.full) = (number, full);
        wishes
    }

    /// Whether more would come if more was subscribed to, or fetched, so that `asked` more messages may be handed out.
    pub(crate) fn is_short(&self, asked: usize, most: usize) -> bool {
        let mut state = self.lock();
        let share = state.share(asked);
        let grows = |line: &Line| line.window.growth(share, most + line.early.min(EARLY)).is_some();
        let short = state.lines.iter().any(grows);
        state.full |= !short && state.lines.iter().any(|line| line.window.is_full(share));
        short
    }

    pub(crate) fn subscribed(&self, wish: &Wish) {
        let mut state = self.lock();
        if let Some(line) = state.lines.get_mut(wish.line) {
            line.window.subscribed(wish.number, wish.prefetch);
        }
        // It was cancelled before it stood.
        if state.retired {
            state.cancel(&self.channel, &self.name, |_| true);
        }
    }

    /// A subscription has ended: because it was cancelled here, or because its queue is gone; the latter is told once.
    pub(crate) fn ended(&self, line: usize, number: u64) -> bool {
        let mut state = self.lock();
        let Some(of) = state.lines.get_mut(line) else { return false };
        let unasked = of.window.cancelled(number) && !of.gone;
        if unasked {
            of.gone = true;
            state.forget(&self.channel, line);
        }
        unasked
    }

    /// The queue exists again.
    pub(crate) fn restored(&self, line: usize) {
        if let Some(line) = self.lock().lines.get_mut(line) {
            line.gone = false;
        }
    }

    /// How many of `asked` messages to fetch one by one, and from which queues, the one whose turn it is first; none unless messages are
    /// scarce and nothing is subscribed to.
    ///
    /// With several queues, one message of each may come for one that is asked for, and go back when nobody asks for the others. Fetching brings
    /// exactly what is asked for, and takes a round trip for each.
    pub(crate) fn fetches(&self, asked: usize, most: usize) -> (usize, Vec<Fetch>) {
        let mut state = self.lock();
        let missing = asked.saturating_sub(state.waiting());
        let subscribed = state.lines.iter().any(|line| !line.kept && line.window.active().next().is_some());
        if missing == 0 || !state.scarce || subscribed || state.retired || state.over {
            return (0, Vec::new());
        }
        let turn = state.turn;
        state.turn = (turn + 1) % state.lines.len().max(1);
        let order = state.lines.iter().enumerate().cycle().skip(turn).take(state.lines.len());
        let fetch = |(place, line): (usize, &Line)| {
            let room = line.window.spare(most + line.early.min(EARLY));
            (room > 0).then(|| Fetch { line: place, queue: line.queue.clone(), room })
        };
        let there = state.lines.iter().filter(|line| !line.gone).count();
        let fetches: Vec<_> = order.filter(|(_, line)| !line.gone).filter_map(fetch).collect();
        // What is settled makes room.
        state.full |= fetches.len() < there;
        (missing, fetches)
    }

    /// When acknowledgements are to be sent that wait for others.
    pub(crate) fn acks_due(&self) -> Option<Instant> {
        self.lock().acks.due()
    }

    /// Sends acknowledgements that have waited long enough.
    pub(crate) fn acknowledge(&self) {
        let (mut state, now) = (self.lock(), Instant::now());
        if state.acks.due().is_some_and(|due| due <= now) {
            state.acknowledge(&self.channel, now);
        }
    }

    /// When that which waits has waited too long, if nobody asks before.
    pub(crate) fn hoarded_at(&self) -> Option<Instant> {
        self.lock().hoarded_at()
    }

    /// Hands back what has waited too long, and sees to it that it does not come again. Whether there was anything.
    pub(crate) fn hand_back(&self) -> bool {
        let mut state = self.lock();
        if state.hoarded_at().is_none_or(|instant| instant > Instant::now()) {
            return false;
        }
        let mut back: HashMap<u64, usize> = HashMap::new();
        let mut ends = Vec::new();
        let State { lines, unsettled, .. } = &mut *state;
        for line in lines.iter_mut().filter(|line| !line.kept) {
            for tag in line.due.drain(..).chain(line.ready.drain(..)) {
                if let Some(by) = unsettled.get(&tag).and_then(|entry| entry.by) {
                    *back.entry(by).or_default() += 1;
                }
                ends.push((tag, End::Return));
            }
        }
        let several = state.lines.len() > 1;
        let open = |line: &Line| {
            // With several queues, even one that is full now brings more than is asked for once something is settled.
            let back = |number| if several { usize::MAX } else { back.get(&number).copied().unwrap_or(0) };
            line.window.open(back)
        };
        let open: Vec<u64> = state.lines.iter().filter(|line| !line.kept).flat_map(open).collect();
        state.cancel(&self.channel, &self.name, |number| open.contains(&number));
        // As they came: some queues keep the order in which messages come back.
        ends.sort_unstable_by_key(|(tag, _)| *tag);
        tracing::debug!(messages = ends.len(), "nobody asks for messages that came; they go back");
        state.end(&self.channel, &ends);
        state.scarce = several;
        true
    }

    /// Lets nothing come any more, and hands back what waits.
    pub(crate) fn retire(&self) {
        let mut state = self.lock();
        state.retired = true;
        state.cancel(&self.channel, &self.name, |_| true);
        state.acknowledge(&self.channel, Instant::now());
        let State { lines, early, .. } = &mut *state;
        let mut tags: Vec<u64> = std::mem::take(early).into_iter().map(|(_, tag)| tag).collect();
        lines.iter_mut().for_each(|line| tags.extend(line.due.drain(..).chain(line.ready.drain(..))));
        tags.sort_unstable();
        let ends: Vec<_> = tags.into_iter().map(|tag| (tag, End::Return)).collect();
        state.end(&self.channel, &ends);
    }

    /// Whether its consumer is gone and nothing is held.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.lock();
        state.over || state.retired && state.unsettled.is_empty()
    }

    /// Ends deliveries, in order; whether each was held.
    pub(crate) fn settle(&self, ends: &[(u64, End)]) -> Vec<bool> {
        let mut state = self.lock();
        let waited = state.acks.due().is_some();
        let settled = if state.over || !self.channel.status().connected() {
            vec![false; ends.len()]
        } else {
            state.end(&self.channel, ends)
        };
        let waits = !waited && state.acks.due().is_some();
        if std::mem::take(&mut state.full) || waits {
            self.demand.notify_one();
        }
        settled
    }

    pub(crate) fn holds(&self, tag: u64) -> bool {
        let state = self.lock();
        !state.over && self.channel.status().connected() && state.unsettled.contains_key(&tag)
    }

    /// What came with this tag, if it is held, and the queue that it came from.
    pub(crate) fn look_up(&self, tag: u64) -> Option<(Taken, QueueName)> {
        let state = self.lock();
        if state.over || !self.channel.status().connected() {
            return None;
        }
        let entry = state.unsettled.get(&tag)?;
        Some((entry.taken.clone(), state.lines.get(entry.line)?.queue.clone()))
    }

    /// What has been handed out for longer than `age` says of its queue: by the server's tag, with the queue that it came from. What has waited
    /// for so long goes back, to come again.
    pub(crate) fn older_than(&self, age: impl Fn(&QueueName) -> Option<Duration>) -> Vec<(u64, Taken, QueueName)> {
        let mut state = self.lock();
        let State { lines, unsettled, .. } = &mut *state;
        let ages: Vec<_> = lines.iter().map(|line| age(&line.queue)).collect();
        let (mut old, mut back) = (Vec::new(), BTreeSet::new());
        for (tag, entry) in unsettled.iter().filter(|(_, entry)| !entry.parking) {
            let Some(Some(age)) = ages.get(entry.line) else { continue };
            let Some(line) = lines.get(entry.line).filter(|_| entry.since.elapsed() >= *age) else { continue };
            if entry.handed_out {
                old.push((*tag, entry.taken.clone(), line.queue.clone()));
            } else {
                back.insert(*tag);
            }
        }
        if !back.is_empty() {
            for line in lines {
                line.due.retain(|waiting| !back.contains(waiting));
                line.ready.retain(|waiting| !back.contains(waiting));
            }
            state.end(&self.channel, &back.into_iter().map(|tag| (tag, End::Return)).collect::<Vec<_>>());
        }
        old
    }

    /// Acknowledges a delivery that goes on to be held elsewhere, until [`Session::let_go_elsewhere`]. `None` if it is not held here.
    ///
    /// It keeps its place among those that are on the way.
    pub(crate) fn hand_over(&self, tag: u64) -> Option<(Taken, QueueName, usize)> {
        let mut state = self.lock();
        if state.over || !self.channel.status().connected() {
            return None;
        }
        let Entry { line, by, taken, .. } = state.unsettled.get(&tag)?;
        let (line, by, taken) = (*line, *by, taken.clone());
        let Line { queue, kept, .. } = state.lines.get(line)?;
        let (queue, kept) = (queue.clone(), *kept);
        if !kept {
            // Else another would come in its place.
            state.cancel(&self.channel, &self.name, |number| by == Some(number));
        }
        state.end(&self.channel, &[(tag, End::Ack)]);
        if let Some(line) = state.lines.get_mut(line) {
            line.window.delivered(None);
        }
        self.demand.notify_one();
        Some((taken, queue, line))
    }

    /// A delivery that was handed over has ended.
    pub(crate) fn let_go_elsewhere(&self, line: usize) {
        let mut state = self.lock();
        if let Some(line) = state.lines.get_mut(line) {
            line.window.settled(None);
        }
        if std::mem::take(&mut state.full) {
            self.demand.notify_one();
        }
    }

    /// Nothing is held any more. Closes the channel, if it is not lost, without waiting.
    ///
    /// A channel is always closed by name: one that is just dropped the driver closes itself, and if the server or the connection does so at the
    /// same time, it takes that for an error of the whole connection.
    pub(crate) fn end(&self) {
        self.lock().give_up(&self.channel);
        if self.channel.status().connected() {
            let _ = self.channel.close(200, "closed".into()).now_or_never();
        }
    }

    /// Hands back all that is held, and closes the channel once the server has it.
    ///
    /// # Errors
    /// If the server could not be told.
    pub(crate) async fn close(&self) -> Result<(), lapin::Error> {
        {
            let mut state = self.lock();
            if state.over {
                return Ok(());
            }
            state.cancel(&self.channel, &self.name, |_| true);
            state.acknowledge(&self.channel, Instant::now());
            if !state.unsettled.is_empty() {
                // Tag 0 is all that there are, in the order in which they came.
                let all = BasicNackOptions { multiple: true, requeue: true };
                let _ = self.channel.basic_nack(0, all).now_or_never();
            }
            // Before anybody else can end one of them.
            state.give_up(&self.channel);
        }
        if !self.channel.status().connected() {
            return Ok(());
        }
        self.channel.close(200, "closed".into()).await
    }

    /// Waits until the server has got all that it was told.
    ///
    /// # Errors
    /// If the channel is lost.
    pub(crate) async fn flush(&self) -> Result<(), lapin::Error> {
        // Whatever it answers will do, and this changes nothing any more.
        self.channel.basic_qos(1, BasicQosOptions { global: false }).await
    }
}
