//! What leads messages that were delayed to their queues.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use celeriac_broker::{Binding, Destination, ExchangeKind, QueueSpec};
use celeriac_core::{Error, ErrorKind, ExchangeName, Result};

use super::step::Step;
use super::{DECLARE, Topology, bind, levels, refusal, too_long};
use crate::delay::{DELIVERY, Exit, pattern};
use crate::error::Fault;

/// For so long a server that has no delay is not asked for it again, for one queue after the other.
const UNDELAYED: Duration = Duration::from_secs(1);

impl Topology {
    /// Sees to it that messages to `destination` that were delayed arrive: that there are the levels, and what leads on from there.
    ///
    /// What leads on is bound anew each time, save what `led` names: bindings go with their queue, whoever deletes it, and the server would tell
    /// nobody that a message found no way out. What was bound is added to `led`.
    ///
    /// # Errors
    /// As [`Topology::ensure`]; and `NotFound` if it is not known which queues they are for.
    pub(crate) async fn ensure_delayed(
        &self,
        operation: &'static str,
        destination: &Destination,
        led: &mut HashSet<String>,
    ) -> Result<()> {
        let mut looked = false;
        loop {
            self.ensure(operation, destination).await?;
            let (key, exits) = self.exits(operation, destination)?;
            if led.contains(&key) {
                return Ok(());
            }
            self.ensure_levels(operation).await?;
            match self.ask(operation, &exits).await {
                Ok(_) => {
                    led.insert(key);
                    return Ok(());
                }
                // The queue, the exchange or the delay is gone since it was seen: with a server that began anew, all of them.
                Err(Fault::Closed { code: 404, .. }) if !looked => {
                    looked = true;
                    self.forget_delay();
                    self.remake(operation, destination).await?;
                }
                Err(fault) => return Err(refusal::explained(fault)),
            }
        }
    }

    /// The bindings that lead what was delayed on to `destination`, and their key.
    fn exits(&self, operation: &'static str, destination: &Destination) -> Result<(String, Vec<Step>)> {
        let Destination { exchange, routing_key } = destination;
        let lost = |what: &str| {
            let why = format!(
                "a message for exchange `{exchange}` cannot be delayed before {what} was declared here: where to lead it is not known"
            );
            Error::new(ErrorKind::NotFound, operation, why)
        };
        let kind = if exchange.is_empty() { Some(ExchangeKind::Direct) } else { self.kind(exchange) };
        let exit =
            kind.and_then(|kind| Exit::of(destination, kind)).ok_or_else(|| lost("a queue that is bound to it"))?;
        let key = exit.binding().ok_or_else(|| too_long(operation, destination))?;
        let steps: Vec<Step> = match exit {
            Exit::Queue(queue) => vec![bind(queue, DELIVERY, &key)],
            Exit::Exchange(exchange) => vec![bind_exchange(exchange, &key)],
            Exit::Key(..) => {
                let specs = self.specs_for(destination);
                specs.iter().map(|spec| bind(&spec.name, DELIVERY, &key)).collect()
            }
            Exit::Topic(..) if self.is_declared(destination) => vec![bind_exchange(exchange, &key)],
            Exit::Topic(..) => Vec::new(),
        };
        if steps.is_empty() {
            return Err(lost(&format!("a queue that is bound to it for key `{routing_key}`")));
        }
        Ok((key, steps))
    }

    /// Leads to a queue that was made, perhaps not for the first time, what waits in the delay for it already; if there is a delay.
    pub(super) async fn lead_back(&self, operation: &'static str, spec: &QueueSpec) {
        if self.known().undelayed.is_some_and(|seen| seen.elapsed() < UNDELAYED) {
            return;
        }
        let direct = spec.bindings.iter().filter(|binding| binding.exchange.kind == ExchangeKind::Direct);
        let by_key = direct.map(|Binding { exchange, key, .. }| Destination {
            exchange: exchange.name.clone(),
            routing_key: key.clone(),
        });
        // What is too long for this cannot be delayed.
        let exits = by_key
            .chain([Destination::queue(&spec.name)])
            .filter_map(|destination| Exit::of(&destination, ExchangeKind::Direct)?.binding());
        let steps: Vec<Step> = exits.map(|key| bind(&spec.name, DELIVERY, &key)).collect();
        if let Err(fault) = self.ask(operation, &steps).await {
            // Nothing is delayed here, or this user may not bind to it.
            self.known().undelayed = Some(Instant::now());
            let error = fault.into_error();
            tracing::debug!(error = %error.report(), queue = %spec.name, "not bound to the delay");
        }
    }

    async fn ensure_levels(&self, operation: &'static str) -> Result<()> {
        if self.known().levels {
            return Ok(());
        }
        let mut steps = levels::steps(self.config.delay_queue_type);
        let mut all_alike = true;
        loop {
            let refused = match self.ask(operation, &steps).await {
                Ok(_) => break,
                Err(fault) => fault,
            };
            // The level is there, with a queue of another type: it works as well.
            let other = match &refused {
                Fault::Closed { code: 406, text, .. } => refusal::queue_of(text),
                _ => None,
            };
            let same = |step: &&mut Step| matches!(step, Step::Queue { name, .. } if Some(name.as_str()) == other);
            let Some(step) = steps.iter_mut().find(same) else { return Err(refusal::explained(refused)) };
            if std::mem::take(&mut all_alike) {
                // And so will the others be.
                steps = levels::steps(self.config.delay_queue_type.other());
            } else {
                *step = Step::FindQueue { name: other.unwrap_or_default().into() };
            }
        }
        self.known().levels = true;
        Ok(())
    }

    /// Leads what Python's Celery delays to the exchanges that the queue is bound to, and on to it.
    pub(super) async fn open_to_python(&self, spec: &QueueSpec) -> Result<()> {
        let mut steps = Vec::new();
        for Binding { exchange, key, .. } in &spec.bindings {
            if !matches!(exchange.kind, ExchangeKind::Topic | ExchangeKind::Fanout) {
                continue;
            }
            let (queue, name) = (&spec.name, &exchange.name);
            if exchange.kind == ExchangeKind::Topic && key.starts_with(['*', '#']) {
                tracing::warn!(
                    %queue, exchange = %name, %key,
                    "what Python delays does not come by this key: all that anybody delays for other queues would come too"
                );
                continue;
            }
            let Some(key) = pattern(key) else {
                tracing::warn!(%queue, exchange = %name, %key, "what Python delays does not come by this key: it is too long");
                continue;
            };
            steps.push(bind_exchange(name, &key));
            if exchange.kind == ExchangeKind::Topic {
                steps.push(bind(queue, name, &key));
            }
        }
        if steps.is_empty() {
            return Ok(());
        }
        let mut looked = false;
        loop {
            self.ensure_levels(DECLARE).await?;
            match self.ask(DECLARE, &steps).await {
                Ok(_) => return Ok(()),
                // The delay is gone since it was seen.
                Err(Fault::Closed { code: 404, .. }) if !looked => {
                    looked = true;
                    self.forget_delay();
                }
                Err(fault) => return Err(refusal::explained(fault)),
            }
        }
    }
}

fn bind_exchange(exchange: &ExchangeName, key: &str) -> Step {
    Step::BindExchange { exchange: exchange.as_str().into(), source: DELIVERY.into(), key: key.into() }
}
