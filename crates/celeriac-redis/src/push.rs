//! Where messages go, and how a script is told: the arguments of what is pushed to lists, parked or broadcast.

use std::collections::HashMap;

use celeriac_broker::{ExchangeKind, Outgoing, topic_matches};
use celeriac_core::{Error, ErrorKind, ExchangeName, Message, Result};

use crate::args::Args;
use crate::error::unbound;
use crate::store::Shared;
use crate::wire::envelope;

/// What is known of an exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) kind: ExchangeKind,
    /// Binding keys and queues.
    pub(crate) bindings: Vec<(String, String)>,
}

/// The exchanges that some messages are published to, by name.
pub(crate) type Exchanges = HashMap<ExchangeName, Exchange>;

/// The pushes that one message comes to.
#[derive(Debug, Default)]
pub(crate) struct Pushes {
    pub(crate) args: Args,
    pub(crate) count: usize,
}

impl Shared {
    /// The queues that a message goes to: none but for a fanout exchange that nobody is bound to.
    pub(crate) fn queues_of<'a>(
        &self,
        operation: &'static str,
        outgoing: &'a Outgoing,
        exchanges: &'a Exchanges,
    ) -> Result<Vec<&'a str>> {
        let (exchange, key) = (&outgoing.destination.exchange, outgoing.destination.routing_key.as_str());
        if exchange.is_empty() {
            return Ok(vec![key]);
        }
        let known = exchanges.get(exchange).ok_or_else(|| {
            let why = format!("exchange `{exchange}` was never declared: declare a queue that is bound to it");
            Error::new(ErrorKind::NotFound, operation, why)
        })?;
        let matches = |bound: &str| match known.kind {
            ExchangeKind::Fanout => true,
            ExchangeKind::Topic => topic_matches(bound, key),
            _ => bound == key,
        };
        let mut queues: Vec<&str> = Vec::new();
        for (bound, queue) in &known.bindings {
            // One copy each, by however many keys a queue is bound.
            if matches(bound) && !queues.contains(&queue.as_str()) {
                queues.push(queue);
            }
        }
        if queues.is_empty() && known.kind != ExchangeKind::Fanout {
            return Err(unbound(operation, exchange, key));
        }
        Ok(queues)
    }

    /// Appends the envelope of a message; a fresh one for each copy.
    ///
    /// # Errors
    /// `TooLarge`.
    pub(crate) fn write_envelope(&self, operation: &'static str, outgoing: &Outgoing, out: &mut Vec<u8>) -> Result<()> {
        let Outgoing { message, destination, .. } = outgoing;
        let start = out.len();
        envelope::encode(message, &destination.exchange, &destination.routing_key, out);
        self.check_size(operation, out.len() - start, || "a message".to_owned())
    }

    /// What publishing a message comes to.
    ///
    /// # Errors
    /// `NotFound` for an exchange or a key that leads nowhere, `TooLarge`.
    pub(crate) fn pushes(&self, operation: &'static str, outgoing: &Outgoing, exchanges: &Exchanges) -> Result<Pushes> {
        let mut pushes = Pushes::default();
        let destination = &outgoing.destination;
        let queues = self.queues_of(operation, outgoing, exchanges)?;
        let step = self.keys.step(outgoing.message.priority().0);
        let has_eta = has_eta(&outgoing.message);
        for queue in &queues {
            // Celery's own form: it goes at once, and whoever takes it waits for its time.
            let celerys = has_eta && self.keeps_celerys_form(queue);
            let args = &mut pushes.args;
            match outgoing.deliver_at.filter(|_| !celerys) {
                None => {
                    args.push("list");
                    args.push(self.keys.list(queue, step));
                }
                Some(due) => {
                    args.push("park");
                    args.push(queue);
                    args.push(self.keys.list(queue, 0));
                    args.push(self.keys.parked(queue));
                    args.push_shown(due.as_micros());
                    args.push_shown(step);
                    args.push(self.unique());
                    args.push(if has_eta { "1" } else { "0" });
                }
            }
            args.push_with(|out| self.write_envelope(operation, outgoing, out))?;
            pushes.count += 1;
        }
        let fanout = exchanges.get(&destination.exchange).is_some_and(|known| known.kind == ExchangeKind::Fanout);
        if fanout && !destination.exchange.is_empty() {
            let args = &mut pushes.args;
            args.push("fanout");
            args.push(self.keys.fanout_channel(&destination.exchange, &destination.routing_key));
            args.push(self.keys.seen_prefix());
            args.push_shown(queues.len());
            queues.iter().for_each(|queue| args.push(queue));
            args.push_with(|out| self.write_envelope(operation, outgoing, out))?;
            pushes.count += 1;
        }
        Ok(pushes)
    }
}

/// Whether the message itself says when it is to be worked: then any worker may have it before.
fn has_eta(message: &Message) -> bool {
    message.task().is_some_and(|task| task.eta.is_some())
}
