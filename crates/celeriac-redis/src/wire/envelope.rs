//! kombu's envelope: a message as the item of a list.

mod decode;
mod encode;
mod handed_back;
mod headers;

use bytes::Bytes;
use celeriac_core::{ExchangeName, Message, RoutingKey};

pub(crate) use decode::decode;
pub(crate) use encode::encode;
pub(crate) use handed_back::{handed_back, stamped};

/// Stands for no content type at all.
///
/// COMPAT: of a task without a content type a Python worker dies, takes it back to its list, and dies again of it (celery 5.7,
/// `celery/worker/request.py`). One of a type that it does not accept it refuses.
const UNTYPED: &str = "application/x-untyped";

/// An envelope as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Envelope {
    pub(crate) message: Message,
    /// The default exchange if the envelope names none.
    pub(crate) exchange: ExchangeName,
    /// `None` if the envelope names none.
    pub(crate) routing_key: Option<RoutingKey>,
    /// Whether it was delivered before: kombu's word for it, or a stamp's.
    pub(crate) redelivered: bool,
    pub(crate) stamp: Option<Stamp>,
}

/// What this crate adds to an envelope that comes back: its last key, `, "celeriac": [<order>, <deliveries>]}` to the letter, so that a
/// script finds it at the end. Python's workers keep it as they restore a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) order: u64,
    pub(crate) deliveries: u32,
}

impl Stamp {
    /// The end of an envelope that has it, in place of the closing brace.
    pub(crate) fn ending(self) -> String {
        let Self { order, deliveries } = self;
        format!(", \"celeriac\": [{order}, {deliveries}]}}")
    }
}

/// Why an item is no envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// What is wrong with it; tells nothing of the content.
    pub(crate) reason: String,
}

impl Unreadable {
    /// The message that stands for such an item: the item as body, without headers and properties.
    pub(crate) fn message(data: impl Into<Bytes>) -> Message {
        Message { body: data.into(), ..Message::default() }
    }
}
