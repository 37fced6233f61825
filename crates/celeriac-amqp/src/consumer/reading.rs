//! Deliveries as RabbitMQ makes them, read.

use celeriac_broker::{Delivery, DeliveryTag, Destination, Outgoing, Receipt};
use celeriac_core::{ExchangeName, Map, Message, QueueName, RoutingKey, Timestamp, Value};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::{delay, wire};

/// How many times a quorum queue has had the message back. Meant for this delivery: it is not shown.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// How often somebody had it. From RabbitMQ 4.3 on the other tells only how often somebody failed.
const ACQUIRED_COUNT: &str = "x-acquired-count";
/// What a message that was published anew had before: its earlier deliveries, and where it was published.
const PARKED: &str = "celeriac-parked";
/// Routing keys by which RabbitMQ publishes a message beside its own.
const COPIED_TO: &str = "CC";
/// Of which delivery it is the copy.
const HELD: &str = "celeriac-held";
/// What the names of the queues begin with where copies are held.
pub(crate) const SHELTER: &str = "celeriac.held.";

/// A message that came, and all that a delivery tells of it.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) message: Message,
    exchange: ExchangeName,
    routing_key: RoutingKey,
    redelivered: bool,
    /// The deliveries before this one, as far as they are known.
    before: u32,
    /// Whether they are.
    counted: bool,
    /// When it is due, if that is later than now.
    pub(crate) due: Option<Timestamp>,
    /// When it expires.
    expires: Option<Timestamp>,
    /// It is too late for it.
    pub(crate) expired: bool,
}

impl Taken {
    /// Reads a delivery; `counts` tells whether the queues count them, where nothing else does.
    pub(crate) fn read(came: lapin::message::Delivery, counts: bool) -> Self {
        let (properties, notes) = Notes::take(came.properties);
        let mut message = wire::message(&properties, came.data);
        if let Some(copied_to) = notes.copied_to {
            message.headers.set_extra(COPIED_TO, copied_to);
        }
        if notes.sheltered {
            delay::forget_queues(&mut message, SHELTER);
        }
        let arrival = delay::arrived(&mut message, came.exchange.as_str(), came.routing_key.as_str());
        Self {
            message,
            exchange: notes.exchange.unwrap_or(arrival.exchange),
            routing_key: notes.routing_key.unwrap_or(arrival.routing_key),
            redelivered: came.redelivered || notes.before > 0,
            before: notes.before.saturating_add(notes.returned.unwrap_or(u32::from(came.redelivered))),
            // A queue that counts says so with the first that came back.
            counted: notes.returned.is_some() || counts && !came.redelivered,
            due: arrival.due,
            expires: arrival.expires,
            expired: arrival.expired,
        }
    }

    pub(crate) fn delivery(&self, queue: QueueName, receipt: Receipt) -> Delivery {
        let delivery = Delivery::new(self.message.clone(), queue, receipt)
            .published_to(self.exchange.clone(), self.routing_key.clone());
        let delivery = if self.counted { delivery.counted(self.before.saturating_add(1)) } else { delivery };
        delivery.redelivered(self.redelivered)
    }

    /// The message once more, for `queue` alone, not before `until`. This delivery does not count.
    pub(crate) fn parked(self, queue: &QueueName, until: Timestamp) -> Outgoing {
        let before = self.before;
        Outgoing::new(self.copy(queue, before), Destination::queue(queue)).deliver_at(until)
    }

    /// The copy of the delivery `number`, to be held in the queue `shelter`, from where it comes back to `queue` if nobody holds it any more. This
    /// delivery counts then.
    pub(crate) fn sheltered(mut self, queue: &QueueName, number: DeliveryTag, shelter: &QueueName) -> Outgoing {
        let before = self.before.saturating_add(1);
        let expiration = self.message.properties.expiration;
        self.expires = self.expires.or(expiration.map(|expiration| Timestamp::now() + expiration));
        let mut message = self.copy(queue, before);
        // It would end its stay in the shelter.
        message.properties.expiration = None;
        message.headers.set_extra(HELD, number.0.to_string());
        Outgoing::new(message, Destination::queue(shelter))
    }

    /// The message once more, for where its queue sends what is rejected.
    pub(crate) fn dead(mut self, exchange: ExchangeName, routing_key: Option<RoutingKey>) -> Outgoing {
        // As RabbitMQ does it: it would expire there too.
        self.message.properties.expiration = None;
        let routing_key = routing_key.unwrap_or(self.routing_key);
        Outgoing::new(self.message, Destination { exchange, routing_key })
    }

    fn copy(self, queue: &QueueName, before: u32) -> Message {
        let mut notes = Map::new();
        if before > 0 {
            notes.insert("deliveries", i64::from(before));
        }
        if !self.exchange.is_empty() || *self.routing_key != **queue {
            notes.insert("exchange", self.exchange.as_str());
            notes.insert("routing_key", self.routing_key.as_str());
        }
        let mut message = self.message;
        // RabbitMQ would send the copy there too.
        if let Some(copied_to) = message.headers.take_extra(COPIED_TO) {
            notes.insert("copied_to", copied_to);
        }
        if !notes.is_empty() {
            message.headers.set_extra(PARKED, Value::Map(notes));
        }
        if let Some(expires) = self.expires {
            delay::keep_expiry(&mut message, expires);
        }
        message
    }
}

/// Of which delivery a message is the copy.
pub(crate) fn copied(came: &lapin::message::Delivery) -> Option<DeliveryTag> {
    match came.properties.headers().as_ref()?.inner().get(HELD)? {
        AMQPValue::LongString(number) => std::str::from_utf8(number.as_bytes()).ok()?.parse().ok().map(DeliveryTag),
        _ => None,
    }
}

/// What stands among the headers for us alone.
#[derive(Debug, Default)]
struct Notes {
    returned: Option<u32>,
    before: u32,
    exchange: Option<ExchangeName>,
    routing_key: Option<RoutingKey>,
    copied_to: Option<Value>,
    /// It is the copy of a delivery that nobody holds any more.
    sheltered: bool,
}

impl Notes {
    fn take(properties: BasicProperties) -> (BasicProperties, Self) {
        let noted = |table: &FieldTable| {
            [DELIVERY_COUNT, ACQUIRED_COUNT, PARKED, HELD].iter().any(|name| table.contains_key(name))
        };
        let Some(table) = properties.headers().as_ref().filter(|table| noted(table)) else {
            return (properties, Self::default());
        };
        let mut table = table.inner().clone();
        let count = |value: &Value| value.as_i64().map(|count| u32::try_from(count.max(0)).unwrap_or(u32::MAX));
        let mut notes = Self::default();
        let (acquired, failed) = (table.remove(ACQUIRED_COUNT), table.remove(DELIVERY_COUNT));
        notes.returned = acquired.or(failed).and_then(|returned| count(&wire::value(&returned)));
        notes.sheltered = table.remove(HELD).is_some();
        if let Some(AMQPValue::FieldTable(parked)) = table.remove(PARKED) {
            let mut parked = wire::map(&parked);
            notes.copied_to = parked.remove("copied_to");
            notes.before = parked.get("deliveries").and_then(count).unwrap_or(0);
            notes.exchange = parked.get("exchange").and_then(|name| name.as_str()?.parse().ok());
            notes.routing_key = parked.get("routing_key").and_then(|key| key.as_str()?.parse().ok());
        }
        (properties.with_headers(table.into()), notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is noted of a message with these headers, and how many are left.
    fn noted(headers: &[(&str, i64)]) -> (Notes, usize) {
        let mut table = FieldTable::default();
        for (name, count) in headers {
            table.insert((*name).into(), AMQPValue::LongLongInt(*count));
        }
        let (properties, notes) = Notes::take(BasicProperties::default().with_headers(table));
        (notes, properties.headers().as_ref().map_or(0, |table| table.inner().len()))
    }

    #[test]
    fn the_counts_of_a_quorum_queue_are_read_and_not_shown() {
        let (notes, left) = noted(&[("x-delivery-count", 2), ("mine", 1)]);
        assert_eq!((notes.returned, left), (Some(2), 1));
        let (notes, left) = noted(&[("x-delivery-count", 1), ("x-acquired-count", 3)]);
        assert_eq!((notes.returned, left), (Some(3), 0), "those that failed and those that did not");
        assert_eq!(noted(&[("mine", 1)]).0.returned, None);
    }
}
