//! `Settle` for the store.

use std::collections::hash_map::Entry;

use async_trait::async_trait;
use celeriac_broker::{Completion, DeliveryTag, Requeue, Settle, Settlement, Verb};
use celeriac_core::{Error, Result, Timestamp};

use crate::state::{After, Held, Incoming, State};
use crate::store::Handle;

#[async_trait]
impl Settle for Handle {
    async fn settle(&self, batch: &mut Vec<Settlement>) -> Result<()> {
        let now = self.shared.now();
        self.shared.with(|state, after| {
            let mut lost = Vec::new();
            after.room(batch.len());
            let mut todo = std::mem::take(batch).into_iter();
            while let Some(settlement) = todo.next() {
                if let Err(error) = self.check(state, &settlement) {
                    *batch = std::iter::once(settlement).chain(todo).collect();
                    return Err(error);
                }
                match self.release(state, settlement.tag) {
                    Some(held) => carry_out(state, held, settlement.verb, now, after),
                    None => lost.push(settlement),
                }
            }
            *batch = lost;
            Ok(())
        })
    }

    fn abandon(&self, tag: DeliveryTag) {
        let now = self.shared.now();
        self.shared.with(|state, after| {
            if let Some(held) = self.release(state, tag) {
                state.take_back(held, None, now, after);
            }
        });
    }
}

impl Handle {
    /// Takes a delivery out of this handle's hands, if it is there.
    fn release(&self, state: &mut State, tag: DeliveryTag) -> Option<Held> {
        match state.held.entry(tag.0) {
            Entry::Occupied(held) if held.get().handle == self.id => Some(held.remove()),
            _ => None,
        }
    }

    /// Whether a settlement can be carried out wholly.
    fn check(&self, state: &State, settlement: &Settlement) -> Result<()> {
        if matches!(settlement.verb, Verb::Ack | Verb::Reject(_) | Verb::Park(_)) {
            return Ok(());
        }
        // Passed over if it is not held, whatever it says.
        if state.held.get(&settlement.tag.0).is_none_or(|held| held.handle != self.id) {
            return Ok(());
        }
        match &settlement.verb {
            Verb::Complete(done) => {
                let Completion { result, next, .. } = &**done;
                if let Some(result) = result {
                    self.shared.check_result(result)?;
                }
                next.iter().try_for_each(|outgoing| self.shared.check_size(outgoing))?;
                let routes = next.iter().map(|outgoing| (&outgoing.destination, &outgoing.message.headers));
                state.check_routes(routes, self.shared.config.max_queue_length)
            }
            other => Err(Error::unsupported("settle", format!("the memory broker does not know {other:?}"))),
        }
    }
}

fn carry_out(state: &mut State, held: Held, verb: Verb, now: Timestamp, after: &mut After) {
    match verb {
        Verb::Reject(Requeue::Yes) => state.take_back(held, None, now, after),
        Verb::Park(until) => state.take_back(held, Some(until), now, after),
        Verb::Complete(done) => {
            let Completion { result, next, .. } = *done;
            if !next.is_empty() {
                state.enqueue(next.into_iter().map(Incoming::from).collect(), now, after);
            }
            if let Some(result) = result {
                state.results.store(result, now, after);
            }
            after.drop_later(held.entry);
        }
        _ => after.drop_later(held.entry),
    }
}
