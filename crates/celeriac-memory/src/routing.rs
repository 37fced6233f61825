//! Exchanges: from a destination to the queues.

use std::collections::HashMap;

use celeriac_broker::{Binding, Destination, ExchangeKind, headers_match, topic_matches};
use celeriac_core::{Error, ErrorKind, ExchangeName, Headers, Map, Result, RoutingKey};

use crate::state::QueueId;

#[derive(Debug)]
struct Exchange {
    kind: ExchangeKind,
    bindings: HashMap<RoutingKey, Vec<QueueId>>,
    /// Those of a headers exchange, where keys mean nothing.
    by_headers: Vec<(Map, QueueId)>,
}

/// Every exchange but the default one.
#[derive(Debug, Default)]
pub(crate) struct Exchanges(HashMap<ExchangeName, Exchange>);

impl Exchanges {
    /// The kind that `name` was declared with.
    pub(crate) fn kind(&self, name: &ExchangeName) -> Option<ExchangeKind> {
        self.0.get(name).map(|exchange| exchange.kind)
    }

    pub(crate) fn bind(&mut self, Binding { exchange, key, arguments, .. }: &Binding, queue: QueueId) {
        let exchange = self.0.entry(exchange.name.clone()).or_insert_with(|| Exchange {
            kind: exchange.kind,
            bindings: HashMap::new(),
            by_headers: Vec::new(),
        });
        if exchange.kind == ExchangeKind::Headers {
            let binding = (arguments.clone(), queue);
            if !exchange.by_headers.contains(&binding) {
                exchange.by_headers.push(binding);
            }
            return;
        }
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
            exchange.by_headers.retain(|(_, bound)| *bound != queue);
        }
    }

    /// The queues that a message with these headers to `destination` is copied to, each once.
    pub(crate) fn route(&self, destination: &Destination, headers: &Headers) -> Result<Vec<QueueId>> {
        let Destination { exchange: name, routing_key: key } = destination;
        let Some(exchange) = self.0.get(name) else {
            return Err(Error::new(ErrorKind::NotFound, "publish", format!("exchange `{name}` was never declared")));
        };
        let mut queues: Vec<QueueId> = match exchange.kind {
            ExchangeKind::Direct => exchange.bindings.get(key).cloned().unwrap_or_default(),
            ExchangeKind::Headers => {
                let matching = exchange.by_headers.iter().filter(|(arguments, _)| headers_match(arguments, headers));
                matching.map(|(_, queue)| *queue).collect()
            }
            ExchangeKind::Topic => {
                let matching = exchange.bindings.iter().filter(|(pattern, _)| topic_matches(pattern, key));
                matching.flat_map(|(_, queues)| queues).copied().collect()
            }
            _ => exchange.bindings.values().flatten().copied().collect(),
        };
        if queues.is_empty() && exchange.kind != ExchangeKind::Fanout {
            let of = if exchange.kind == ExchangeKind::Headers { "these headers" } else { "this routing key" };
            let message = format!("no queue is bound to exchange `{name}` for {of}; the key is `{key}`");
            return Err(Error::new(ErrorKind::NotFound, "publish", message));
        }
        queues.sort_unstable();
        queues.dedup();
        Ok(queues)
    }
}
