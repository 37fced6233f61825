//! Exchanges: from a destination to the queues.

use std::collections::HashMap;

use celeriac_broker::{Destination, ExchangeKind, topic_matches};
use celeriac_core::{Error, ErrorKind, ExchangeName, Result, RoutingKey};

use crate::state::QueueId;

#[derive(Debug)]
struct Exchange {
    kind: ExchangeKind,
    bindings: HashMap<RoutingKey, Vec<QueueId>>,
}

/// Every exchange but the default one.
#[derive(Debug, Default)]
pub(crate) struct Exchanges(HashMap<ExchangeName, Exchange>);

impl Exchanges {
    /// The kind that `name` was declared with.
    pub(crate) fn kind(&self, name: &ExchangeName) -> Option<ExchangeKind> {
        self.0.get(name).map(|exchange| exchange.kind)
    }

    pub(crate) fn bind(&mut self, name: &ExchangeName, kind: ExchangeKind, key: &RoutingKey, queue: QueueId) {
        let exchange = self.0.entry(name.clone()).or_insert_with(|| Exchange { kind, bindings: HashMap::new() });
        let bound = exchange.bindings.entry(key.clone()).or_default();
        if !bound.contains(&queue) {
            bound.push(queue);
        }
    }

    /// Removes every binding of `queue`; exchanges stay.
    pub(crate) fn unbind(&mut self, queue: QueueId) {
        for exchange in self.0.values_mut() {
            exchange.bindings.retain(|_, bound| {
                bound.retain(|other| *other != queue);
                !bound.is_empty()
            });
        }
    }

    /// The queues that a message to `destination` is copied to, each once.
    pub(crate) fn route(&self, destination: &Destination) -> Result<Vec<QueueId>> {
        let Destination { exchange: name, routing_key: key } = destination;
        let Some(exchange) = self.0.get(name) else {
            return Err(Error::new(ErrorKind::NotFound, "publish", format!("exchange `{name}` was never declared")));
        };
        let mut queues: Vec<QueueId> = match exchange.kind {
            ExchangeKind::Direct => exchange.bindings.get(key).cloned().unwrap_or_default(),
            ExchangeKind::Topic => {
                let matching = exchange.bindings.iter().filter(|(pattern, _)| topic_matches(pattern, key));
                matching.flat_map(|(_, queues)| queues).copied().collect()
            }
            _ => exchange.bindings.values().flatten().copied().collect(),
        };
        if queues.is_empty() && exchange.kind != ExchangeKind::Fanout {
            let message = format!("no queue is bound to exchange `{name}` for routing key `{key}`");
            return Err(Error::new(ErrorKind::NotFound, "publish", message));
        }
        queues.sort_unstable();
        queues.dedup();
        Ok(queues)
    }
}
