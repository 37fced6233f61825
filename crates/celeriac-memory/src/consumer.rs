//! `Consumer` for the store.

use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use celeriac_broker::{Consumer, Delivery, DeliveryTag, Receipt, Settle};
use celeriac_core::{QueueName, Result, Timestamp};
use tokio::sync::Notify;

use crate::queue::{Queue, Stored};
use crate::state::{After, Held, QueueId, State};
use crate::store::Handle;
use crate::timer;

#[derive(Debug)]
pub(crate) struct MemoryConsumer {
    handle: Arc<Handle>,
    member: u64,
    queues: Vec<(QueueId, QueueName)>,
    /// Which queue is served first next time.
    turn: usize,
    notify: Arc<Notify>,
}

/// A message on its way from the lock to the receiver.
struct Taken {
    tag: u64,
    stored: Arc<Stored>,
    deliveries: u32,
    queue: usize,
}

impl MemoryConsumer {
    pub(crate) fn new(
        handle: Arc<Handle>,
        member: u64,
        queues: Vec<(QueueId, QueueName)>,
        notify: Arc<Notify>,
    ) -> Self {
        Self { handle, member, queues, turn: 0, notify }
    }

    /// Takes what is there, or gets in line: then with the ticket. `ticket` is that of the line it comes from.
    fn take(&mut self, limit: usize, ticket: Option<u64>) -> Result<Result<Vec<Taken>, u64>> {
        let handle = Arc::clone(&self.handle);
        let now = handle.shared.now();
        handle.shared.with(|state, after| {
            if let Some(ticket) = ticket {
                self.leave_line(ticket, state);
            }
            if let Err(closed) = handle.check_broker("receive") {
                self.pass_on(state, after);
                return Err(closed);
            }
            let taken = self.take_from(state, limit, now, after);
            self.pass_on(state, after);
            if let Some(last) = taken.last() {
                self.turn = last.queue + 1;
                return Ok(Ok(taken));
            }
            Ok(Err(self.join_line(state, limit)))
        })
    }

    fn take_from(&self, state: &mut State, limit: usize, now: Timestamp, after: &mut After) -> Vec<Taken> {
        let State { queues, held, last_id, .. } = state;
        let ready: usize = self.queues.iter().filter_map(|(id, _)| queues.get(id)).map(Queue::ready).sum();
        let mut taken = Vec::with_capacity(ready.min(limit));
        let turn = self.turn % self.queues.len().max(1);
        let in_turn = self.queues.iter().enumerate().cycle().skip(turn).take(self.queues.len());
        for (at, (id, _)) in in_turn {
            let Some(queue) = queues.get_mut(id) else { continue };
            queue.promote(now);
            queue.take(limit - taken.len(), now, after, |mut entry| {
                *last_id += 1;
                entry.deliveries = entry.deliveries.saturating_add(1);
                let (stored, deliveries) = (Arc::clone(&entry.stored), entry.deliveries);
                taken.push(Taken { tag: *last_id, stored, deliveries, queue: at });
                held.insert(*last_id, Held { entry, queue: *id, handle: self.handle.id });
            });
        }
        taken
    }

    /// Gets in line at every queue.
    fn join_line(&self, state: &mut State, limit: usize) -> u64 {
        let ticket = state.fresh_id();
        let mut delayed = false;
        for (id, _) in &self.queues {
            if let Some(queue) = state.queues.get_mut(id) {
                queue.add_waiter(ticket, limit, &self.notify);
                delayed |= queue.next_due().is_some();
            }
        }
        if delayed {
            timer::ensure(&self.handle.shared, state);
        }
        ticket
    }

    fn leave_line(&self, ticket: u64, state: &mut State) {
        for (id, _) in &self.queues {
            if let Some(queue) = state.queues.get_mut(id) {
                queue.remove_waiter(ticket);
            }
        }
    }

    /// Wakes others for what this consumer was woken for, or left.
    fn pass_on(&self, state: &mut State, after: &mut After) {
        for (id, _) in &self.queues {
            if let Some(queue) = state.queues.get_mut(id) {
                queue.wake(queue.ready(), after);
            }
        }
    }

    fn deliver(&self, taken: Taken) -> Option<Delivery> {
        let (_, queue) = self.queues.get(taken.queue)?;
        let settle: Arc<dyn Settle> = Arc::<Handle>::clone(&self.handle);
        let receipt = Receipt::new(DeliveryTag(taken.tag), settle);
        let Stored { message, destination } = &*taken.stored;
        let delivery = Delivery::new(message.clone(), queue.clone(), receipt)
            .published_to(destination.exchange.clone(), destination.routing_key.clone())
            .counted(taken.deliveries);
        Some(delivery)
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn recv(&mut self, limit: NonZeroUsize) -> Result<Vec<Delivery>> {
        let mut ticket = None;
        loop {
            let place = match self.take(limit.get(), ticket)? {
                Ok(taken) => {
                    let mut deliveries = Vec::with_capacity(taken.len());
                    deliveries.extend(taken.into_iter().filter_map(|one| self.deliver(one)));
                    return Ok(deliveries);
                }
                Err(place) => place,
            };
            ticket = Some(place);
            // CANCEL SAFETY: no message is in hand while waiting, and `InLine` passes on a wake-up that comes too late.
            let mut line = InLine { consumer: self, ticket };
            line.consumer.notify.notified().await;
            line.ticket = None;
        }
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        self.handle.with_broker("cancel", |_, _| Ok(()))
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        let now = self.handle.shared.now();
        self.handle.shared.with(|state, after| state.remove_member(self.member, now, after));
    }
}

/// A place in the lines of all queues of a consumer, given up when the `recv` is dropped.
struct InLine<'a> {
    consumer: &'a MemoryConsumer,
    /// `None` once its turn came: then whoever looks at the queues next gives the place up.
    ticket: Option<u64>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        self.consumer.handle.shared.with(|state, after| {
            self.consumer.leave_line(ticket, state);
            self.consumer.pass_on(state, after);
        });
    }
}
