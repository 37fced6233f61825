//! Messages on their way in: made ready outside of the transaction, written within it.

use bytes::Bytes;
use celeriac_broker::Outgoing;
use celeriac_core::{Error, ErrorKind, ExchangeName, Result, RoutingKey};

use crate::error::Outcome;
use crate::topology::{Queue, micros};
use crate::txn::Txn;
use crate::wire;

/// A message, ready to be written.
#[derive(Debug)]
pub(crate) struct Parcel {
    exchange: ExchangeName,
    routing_key: RoutingKey,
    priority: u8,
    due: Option<i64>,
    expires_after: Option<i64>,
    head: Vec<u8>,
    body: Bytes,
}

impl Parcel {
    pub(crate) fn new(outgoing: &Outgoing, max_bytes: usize) -> Result<Self> {
        let message = &outgoing.message;
        let head = wire::encode_head(&message.headers, &message.properties);
        let size = head.len() + message.body.len();
        if size > max_bytes {
            let key = &outgoing.destination.routing_key;
            let why = format!("a message of {size} bytes to `{key}` is over the limit of {max_bytes} bytes");
            return Err(Error::new(ErrorKind::TooLarge, "publish", why));
        }
        Ok(Self {
            exchange: outgoing.destination.exchange.clone(),
            routing_key: outgoing.destination.routing_key.clone(),
            priority: message.priority().0,
            due: outgoing.deliver_at.map(|due| due.as_micros()),
            expires_after: message.properties.expiration.map(micros),
            head,
            body: message.body.clone(),
        })
    }

    /// What it counts towards a group of jobs, in messages of ordinary size.
    pub(crate) fn weight(&self) -> usize {
        1 + (self.head.len() + self.body.len()) / 4096
    }
}

/// A message's place in the order of its queue.
pub(crate) fn rank(priority: u8) -> i64 {
    i64::from(u8::MAX - priority) * 2 + 1
}

/// Before the others of its priority.
pub(crate) fn handed_back(rank: i64) -> i64 {
    rank & !1
}

impl Txn<'_> {
    pub(crate) fn publish(&mut self, parcel: &Parcel) -> Outcome {
        if parcel.exchange.is_empty() && !parcel.routing_key.is_empty() {
            let queue = self.topology.ensure(self.connection, &parcel.routing_key, self.now)?;
            return self.insert(parcel, queue, None);
        }
        for id in self.topology.route(self.connection, &parcel.exchange, &parcel.routing_key, self.now)? {
            if let Some(queue) = self.topology.by_id(self.connection, id)? {
                self.insert(parcel, queue, Some((&parcel.exchange, &parcel.routing_key)))?;
            }
        }
        Ok(())
    }

    /// Whether [`Txn::publish`] would find a queue.
    pub(crate) fn check_route(&mut self, parcel: &Parcel) -> Outcome {
        self.topology.route(self.connection, &parcel.exchange, &parcel.routing_key, self.now).map(drop)
    }

    fn insert(&mut self, parcel: &Parcel, queue: Queue, published_to: Option<(&str, &str)>) -> Outcome {
        let (exchange, key) = published_to.unzip();
        let sql = "INSERT INTO message (exchange, routing_key, head, body) VALUES (?1, ?2, ?3, ?4)";
        let id = self.statements.get(sql)?.insert((exchange, key, &parcel.head, &*parcel.body))?;
        let due = parcel.due.unwrap_or(self.now);
        let expires = [
            parcel.expires_after.map(|after| self.now.saturating_add(after)),
            queue.message_ttl.map(|ttl| due.max(self.now).saturating_add(ttl)),
        ];
        let place = Place {
            queue: queue.id,
            message: id,
            rank: rank(parcel.priority.min(queue.max_priority.unwrap_or(u8::MAX))),
            deliveries: 0,
            expires: expires.into_iter().flatten().min(),
        };
        self.put(place, due)
    }

    /// Lets a message wait in its queue until it is due.
    pub(crate) fn put(&mut self, place: Place, due: i64) -> Outcome {
        let Place { queue, message, rank, deliveries, expires } = place;
        if due > self.now {
            let sql =
                "INSERT INTO delayed (queue, due, message, rank, deliveries, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            self.statements.get(sql)?.execute((queue, due, message, rank, deliveries, expires))?;
        } else {
            let sql = "INSERT INTO ready (queue, rank, message, deliveries, expires) VALUES (?1, ?2, ?3, ?4, ?5)";
            self.statements.get(sql)?.execute((queue, rank, message, deliveries, expires))?;
        }
        self.effects.ready(queue);
        Ok(())
    }
}

/// Where a message waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) queue: i64,
    pub(crate) message: i64,
    pub(crate) rank: i64,
    pub(crate) deliveries: i64,
    pub(crate) expires: Option<i64>,
}
