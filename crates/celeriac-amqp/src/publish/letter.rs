//! One message on its way to the server.

use bytes::Bytes;
use celeriac_broker::{Destination, ExchangeKind, Outgoing};
use celeriac_core::{Clock, Error, ErrorKind, ExchangeName, Result, RoutingKey, SystemClock, Timestamp};
use lapin::BasicProperties;
use lapin::message::BasicReturnMessage;
use lapin::types::ShortString;

use crate::delay::{self, ENTRY, Exit};
use crate::topology::{Topology, too_long};
use crate::wire;

/// A message, and how far it has got.
pub(super) struct Letter {
    content: Content,
    /// Where it goes, in the end.
    pub(super) destination: Destination,
    /// Not to be delivered before this instant.
    due: Option<Timestamp>,
    /// Whether it goes by the delay.
    delayed: bool,
    /// The server has it.
    pub(super) done: bool,
    /// How often it came back, because there was no queue for it.
    pub(super) returned: u8,
}

enum Content {
    Message(celeriac_core::Message),
    Reply(BasicProperties, Bytes),
}

/// A letter as it is published.
pub(super) struct Sealed<'a> {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    /// Whether it is to be returned when there is no queue for it.
    pub(super) mandatory: bool,
    pub(super) properties: BasicProperties,
    pub(super) body: &'a Bytes,
}

impl Letter {
    pub(super) fn new(mut outgoing: Outgoing, now: Timestamp) -> Self {
        let due = delay::mark(&mut outgoing, now);
        Self {
            content: Content::Message(outgoing.message),
            destination: outgoing.destination,
            due,
            delayed: false,
            done: false,
            returned: 0,
        }
    }

    pub(super) fn reply((queue, properties, body): (RoutingKey, BasicProperties, Bytes)) -> Self {
        Self {
            content: Content::Reply(properties, body),
            destination: Destination { exchange: ExchangeName::DEFAULT, routing_key: queue },
            due: None,
            delayed: false,
            done: false,
            returned: 0,
        }
    }

    /// Whether nobody is to know if there is no queue for it.
    pub(super) fn is_reply(&self) -> bool {
        matches!(self.content, Content::Reply(..))
    }

    /// Whether it goes by the delay.
    pub(super) fn is_delayed(&self) -> bool {
        self.delayed
    }

    /// Decides whether it goes by the delay.
    pub(super) fn set_out(&mut self, now: Timestamp) {
        self.delayed = self.due.is_some_and(|due| delay::seconds(due, now) > 0);
        if let (true, Content::Message(message)) = (self.delayed, &mut self.content) {
            // It would end the delay.
            message.properties.expiration = None;
        }
    }

    /// The bytes of its body.
    pub(super) fn length(&self) -> usize {
        match &self.content {
            Content::Message(message) => message.body.len(),
            Content::Reply(_, body) => body.len(),
        }
    }

    /// How long it is to wait on its way, if it is sent now; at once if 0.
    pub(super) fn seconds(&self) -> u32 {
        self.due.filter(|_| self.delayed).map_or(0, |due| delay::seconds(due, SystemClock.now()))
    }

    /// What is published, to wait for so many seconds.
    ///
    /// # Errors
    /// `TooLarge` naming what AMQP cannot carry.
    pub(super) fn sealed(&self, operation: &'static str, seconds: u32, topology: &Topology) -> Result<Sealed<'_>> {
        let Destination { exchange, routing_key } = &self.destination;
        let (properties, body) = match &self.content {
            Content::Message(message) => (persistent(wire::properties(message)?), &message.body),
            Content::Reply(properties, body) => (properties.clone(), body),
        };
        if seconds == 0 {
            let mandatory = !self.is_reply() && !topology.is_fanout(exchange);
            let (exchange, routing_key) = (exchange.as_str().into(), routing_key.as_str().into());
            return Ok(Sealed { exchange, routing_key, mandatory, properties, body });
        }
        // The topology has seen to it that the kind is known.
        let kind = topology.kind(exchange).unwrap_or(ExchangeKind::Direct);
        let key = Exit::of(&self.destination, kind).and_then(|exit| exit.routing_key(seconds));
        let key = key.ok_or_else(|| too_long(operation, &self.destination))?;
        Ok(Sealed { exchange: ENTRY.into(), routing_key: key.into(), mandatory: true, properties, body })
    }

    /// The error of a message for which there is no queue.
    pub(super) fn unroutable(&self, operation: &'static str) -> Error {
        let Destination { exchange, routing_key } = &self.destination;
        let why = if exchange.is_empty() {
            format!("RabbitMQ does not lead to queue `{routing_key}`, though it was declared: is somebody deleting it?")
        } else {
            format!("no queue is bound to exchange `{exchange}` for this message; its routing key is `{routing_key}`")
        };
        Error::new(ErrorKind::NotFound, operation, why)
    }

    /// The error of a message that the server does not answer for.
    pub(super) fn refused(&self, operation: &'static str) -> Error {
        let Destination { exchange, routing_key } = &self.destination;
        let why = format!(
            "RabbitMQ does not take a message for exchange `{exchange}` and routing key `{routing_key}`: a queue is full, or has failed"
        );
        Error::unavailable(operation, why)
    }
}

/// A message survives a restart, unless it says otherwise; RabbitMQ has it the other way round.
fn persistent(properties: BasicProperties) -> BasicProperties {
    if properties.delivery_mode().is_none() { properties.with_delivery_mode(2) } else { properties }
}

impl Sealed<'_> {
    /// Sees to it that headers and properties fit into one frame.
    ///
    /// # Errors
    /// `TooLarge`: the server would end the connection for it.
    pub(super) fn checked(self, operation: &'static str, longest_frame: usize) -> Result<Self> {
        let bytes = wire::header_frame(&self.properties);
        if bytes <= longest_frame {
            return Ok(self);
        }
        let why = format!(
            "headers and properties of {bytes} bytes, and one frame (`frame_max`) has {longest_frame} for them at most"
        );
        Err(Error::new(ErrorKind::TooLarge, operation, why))
    }

    /// Whether `returned` is this very message, or one that cannot be told from it.
    pub(super) fn is(&self, returned: &BasicReturnMessage) -> bool {
        let message = &returned.delivery;
        self.goes_where(returned) && **self.body == *message.data && self.properties == message.properties
    }

    /// Whether it goes to where `returned` came back from.
    pub(super) fn goes_where(&self, returned: &BasicReturnMessage) -> bool {
        let message = &returned.delivery;
        self.routing_key == message.routing_key && self.exchange == message.exchange
    }
}
