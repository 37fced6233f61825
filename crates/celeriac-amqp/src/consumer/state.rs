//! What a channel of a consumer knows, behind one lock.

use std::collections::{BTreeMap, BTreeSet};

use celeriac_broker::{Delivery, Receipt};
use celeriac_core::Timestamp;
use futures_util::FutureExt as _;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicNackOptions, BasicRejectOptions};
use tokio::time::Instant;

use super::acks::{Acks, Came};
use super::line::Line;
use super::reading::Taken;
use super::session::{End, HOARD};
use super::window::{By, Window};

pub(super) struct State {
    /// Nothing is held any more.
    pub(super) over: bool,
    /// Its consumer is gone: what comes goes back, and it ends with the last message that is settled.
    pub(super) retired: bool,
    pub(super) lines: Vec<Line>,
    /// By the server's own tag. In the order in which they came.
    pub(super) unsettled: BTreeMap<u64, Entry>,
    pub(super) came: Came,
    pub(super) acks: Acks,
    /// Those that are not due yet, but for those that are being parked.
    pub(super) early: BTreeSet<(Timestamp, u64)>,
    /// The line that is served first the next time.
    pub(super) turn: usize,
    pub(super) subscriptions: u64,
    /// More could come if something was settled.
    pub(super) full: bool,
    /// When messages were asked for the last time.
    pub(super) asked_at: Instant,
    /// When any were handed out the last time.
    pub(super) taken_at: Instant,
    /// When something came to wait where nothing did.
    pub(super) waits_since: Instant,
    /// Messages went back that nobody asked for, and since then they were handed out rarely.
    pub(super) scarce: bool,
}

pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) by: By,
    pub(super) since: Instant,
    /// Somebody has it.
    pub(super) handed_out: bool,
    /// It waits until it is due.
    pub(super) early: Option<Timestamp>,
    /// It is being published anew, and ends with that: nobody else may end it, or hand it out.
    pub(super) parking: bool,
    pub(super) taken: Taken,
}

impl State {
    pub(super) fn waiting(&self) -> usize {
        self.lines.iter().map(Line::waiting).sum()
    }

    pub(super) fn hoarded_at(&self) -> Option<Instant> {
        let waits = self.lines.iter().any(|line| !line.kept && line.waiting() > 0);
        waits.then(|| self.asked_at.max(self.waits_since) + HOARD)
    }

    /// How many of `asked` more messages are to come from each queue.
    pub(super) fn share(&self, asked: usize) -> usize {
        asked.saturating_sub(self.waiting()).div_ceil(self.lines.len().max(1))
    }

    /// Makes a receipt only if there is a delivery: one that is dropped here would settle itself, and wait for the lock for ever.
    pub(super) fn delivery(&mut self, tag: u64, receipt: impl FnOnce() -> Receipt) -> Option<Delivery> {
        let entry = self.unsettled.get_mut(&tag)?;
        entry.handed_out = true;
        let queue = self.lines.get(entry.line)?.queue.clone();
        Some(entry.taken.delivery(queue, receipt()))
    }

    /// Ends deliveries, in order; whether each was held. The driver sends it later, but in this order: so nobody else may end anything meanwhile.
    pub(super) fn end(&mut self, channel: &Channel, ends: &[(u64, End)]) -> Vec<bool> {
        let mut held = Vec::with_capacity(ends.len());
        for (tag, end) in ends {
            let entry = self.unsettled.remove(tag);
            held.push(entry.is_some());
            let Some(entry) = entry else { continue };
            if let Some(line) = self.lines.get_mut(entry.line) {
                line.window.settled(entry.by);
                line.early -= usize::from(entry.early.is_some()).min(line.early);
            }
            if let Some(due) = entry.early {
                self.early.remove(&(due, *tag));
            }
            match end {
                End::Ack => self.acks.add(*tag),
                End::Drop | End::Requeue => {
                    let options = BasicRejectOptions { requeue: *end == End::Requeue };
                    let _ = channel.basic_reject(*tag, options).now_or_never();
                }
                // From RabbitMQ 4.3 on this does not count as a failure, of which a quorum queue takes only so many.
                End::Return => {
                    let options = BasicNackOptions { multiple: false, requeue: true };
                    let _ = channel.basic_nack(*tag, options).now_or_never();
                }
            }
        }
        let now = Instant::now();
        if self.acks.are_due(self.unsettled.len(), now) || self.retired {
            self.acknowledge(channel, now);
        }
        held
    }

    /// Sends the acknowledgements that wait.
    pub(super) fn acknowledge(&mut self, channel: &Channel, now: Instant) {
        let first_left = self.unsettled.first_key_value().map_or(u64::MAX, |(tag, _)| *tag);
        for (tag, multiple) in self.acks.take(first_left.min(self.came.before()), now) {
            let _ = channel.basic_ack(tag, BasicAckOptions { multiple }).now_or_never();
        }
    }

    pub(super) fn cancel(&mut self, channel: &Channel, name: &str, which: impl Fn(u64) -> bool) {
        for line in &mut self.lines {
            let chosen: Vec<u64> = line.window.active().filter(|number| which(*number)).collect();
            for number in chosen {
                line.window.cancelled(number);
                let tag = format!("{name}.{number}").into();
                // What the server answers ends the subscription's stream; until then more may come by it.
                let _ = channel.basic_cancel(tag, BasicCancelOptions::default()).now_or_never();
            }
        }
    }

    /// Nothing is held any more.
    pub(super) fn give_up(&mut self, channel: &Channel) {
        self.acknowledge(channel, Instant::now());
        self.over = true;
        self.unsettled.clear();
        self.early.clear();
        self.lines.clear();
    }

    /// Nothing of this queue is held any more. The server is told so: it still counts what it delivered, and closes a channel where that stays
    /// for too long; and it must know before the queue is subscribed to anew, whose deliveries it might take these for.
    pub(super) fn forget(&mut self, channel: &Channel, line: usize) {
        let tags = self.unsettled.iter().filter(|(_, entry)| entry.line == line).map(|(tag, _)| (*tag, End::Return));
        let ends: Vec<_> = tags.collect();
        self.end(channel, &ends);
        if let Some(line) = self.lines.get_mut(line) {
            line.window = Window::default();
            line.due.clear();
            line.ready.clear();
            line.early = 0;
        }
    }
}
