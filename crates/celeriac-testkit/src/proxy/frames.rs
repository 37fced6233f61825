//! `Frames`: a stream of bytes as the commands or replies that it consists of.

use super::{amqp, resp};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// RabbitMQ's, AMQP 0-9-1.
    Amqp,
    /// Redis's, of version 2 or 3.
    Resp,
    /// Unknown: what is read at once belongs together.
    Opaque,
}

impl Protocol {
    /// The name of a frame; empty if it has none.
    pub(super) fn name(self, frame: &[u8]) -> String {
        match self {
            Self::Amqp => amqp::name(frame),
            Self::Resp => resp::name(frame),
            Self::Opaque => String::new(),
        }
    }
}

/// Cuts a stream into whole frames: commands, or replies.
#[derive(Debug)]
pub(super) struct Frames {
    splitter: Splitter,
    bytes: Vec<u8>,
}

#[derive(Debug)]
enum Splitter {
    Amqp(amqp::Splitter),
    Resp(resp::Splitter),
    Opaque,
}

impl Frames {
    pub(super) fn new(protocol: Protocol) -> Self {
        let splitter = match protocol {
            Protocol::Amqp => Splitter::Amqp(amqp::Splitter::new()),
            Protocol::Resp => Splitter::Resp(resp::Splitter::new()),
            Protocol::Opaque => Splitter::Opaque,
        };
        Self { splitter, bytes: Vec::new() }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        let end = match &mut self.splitter {
            Splitter::Amqp(splitter) => splitter.end(&self.bytes),
            Splitter::Resp(splitter) => splitter.end(&self.bytes),
            Splitter::Opaque => Some(self.bytes.len()).filter(|length| *length > 0),
        }?;
        let behind = self.bytes.split_off(end);
        Some(std::mem::replace(&mut self.bytes, behind))
    }

    /// What has come of a frame that is not whole.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

/// The frames of a stream that comes in pieces, and what is left of it.
#[cfg(test)]
pub(super) fn split(protocol: Protocol, stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut frames = Frames::new(protocol);
    let mut found = Vec::new();
    for bytes in stream.chunks(piece) {
        frames.push(bytes);
        found.extend(std::iter::from_fn(|| frames.next()));
    }
    (found, frames.rest())
}
