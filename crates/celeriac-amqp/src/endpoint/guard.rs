//! Looks at the frames that come in before the driver reads them.
//!
//! The driver reads a table within a table by calling itself, as deep as the sender likes: headers that nest some thousand times overflow its
//! thread's stack, and that ends the whole process. And a name or a routing key that is no UTF-8 makes it give the connection up, upon which the
//! server delivers the same message again. Anyone who may publish could stop every worker with one message. So what the driver cannot read is left
//! out of a message's properties here, and replaced in its exchange and routing key.

mod methods;
mod properties;

use std::io;

use self::methods::mend;
use self::properties::cleaned;
use crate::error::Stranger;

/// So much is read at once. The driver's own buffer is larger.
const CHUNK: usize = 64 * 1024;

/// A frame's type, channel and length come before its payload, a mark follows it.
const HEAD: usize = 7;
const METHOD: u8 = 1;
const CONTENT_HEADER: u8 = 2;

/// No frame is larger than this that a connection may be configured for.
const LONGEST: usize = 2 * 1024 * 1024;

/// What has come in and is not passed on yet.
#[derive(Default)]
pub(super) struct Guard {
    bytes: Vec<u8>,
    /// What has been passed on ends here, what may be passed on next ends at `ready`, what has come ends at `end`.
    start: usize,
    ready: usize,
    end: usize,
    /// How much of the present frame comes after `ready` that is passed on without a look.
    passing: usize,
    /// Whether it is known that the peer speaks AMQP.
    met: bool,
}

impl Guard {
    /// Moves what may be passed on to `out`, as far as it fits.
    pub(super) fn take(&mut self, out: &mut [u8]) -> usize {
        let count = out.len().min(self.ready - self.start);
        out[..count].copy_from_slice(&self.bytes[self.start..self.start + count]);
        self.start += count;
        count
    }

    /// Where to put what comes in.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.ready, self.end, self.start) = (self.ready - self.start, self.end - self.start, 0);
        if self.bytes.len() < self.end + CHUNK {
            self.bytes.resize(self.end + CHUNK, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Looks at the next `count` bytes, which have been put into the room.
    ///
    /// # Errors
    /// If this is no server of AMQP: the error's source is a [`Stranger`].
    pub(super) fn came(&mut self, count: usize) -> io::Result<()> {
        self.end += count;
        if !self.met {
            self.meet()?;
        }
        while self.ready < self.end {
            let left = self.end - self.ready;
            if self.passing > 0 {
                let passed = self.passing.min(left);
                self.passing -= passed;
                self.ready += passed;
                continue;
            }
            let Some((kind, length)) = head(&self.bytes[self.ready..self.end]) else { break };
            // With its mark.
            let whole = HEAD + length + 1;
            if !matches!(kind, METHOD | CONTENT_HEADER) || whole > LONGEST {
                self.passing = whole;
            } else if left < whole {
                break;
            } else if kind == METHOD {
                self.look_at_method(whole);
            } else {
                self.look(whole);
            }
        }
        Ok(())
    }

    /// Looks at the first byte of all: that of a frame, or of the protocol's name, which the server says if it speaks another version.
    fn meet(&mut self) -> io::Result<()> {
        match self.bytes.get(self.ready) {
            Some(&METHOD | b'A') => {
                self.met = true;
                Ok(())
            }
            first => {
                let stranger = if first == Some(&Stranger::TLS_ALERT) { Stranger::Tls } else { Stranger::Other };
                Err(io::Error::new(io::ErrorKind::InvalidData, stranger))
            }
        }
    }

    /// Looks at a method, which is the next `whole` bytes.
    fn look_at_method(&mut self, whole: usize) {
        if mend(&mut self.bytes[self.ready + HEAD..self.ready + whole - 1]) {
            tracing::warn!(
                "an exchange, routing key or reason has come that is no UTF-8; it is shown with `?` for what cannot be read"
            );
        }
        self.ready += whole;
    }

    /// Looks at the properties of a message, which are the next `whole` bytes.
    fn look(&mut self, whole: usize) {
        let payload = self.ready + HEAD..self.ready + whole - 1;
        let Some(clean) = cleaned(&self.bytes[payload.clone()]) else {
            self.ready += whole;
            return;
        };
        tracing::warn!("a message has come with properties or headers that cannot be read; they are left out");
        let Ok(length) = u32::try_from(clean.len()) else { return };
        self.bytes[self.ready + 3..self.ready + HEAD].copy_from_slice(&length.to_be_bytes());
        self.end = self.end + clean.len() - payload.len();
        self.ready += HEAD + clean.len() + 1;
        self.bytes.splice(payload, clean);
    }
}

/// The type of the frame that begins here, and the length of its payload.
fn head(bytes: &[u8]) -> Option<(u8, usize)> {
    let &[kind, _, _, a, b, c, d, ..] = bytes else { return None };
    Some((kind, usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?))
}

#[cfg(test)]
mod tests;
