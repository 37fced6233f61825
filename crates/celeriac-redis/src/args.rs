//! The arguments of a script, collected in one buffer: a call may have to be made again.

use std::fmt::Display;
use std::io::Write as _;

use deadpool_redis::redis::Cmd;

/// Arguments, one after the other.
#[derive(Debug, Default, Clone)]
pub(crate) struct Args {
    data: Vec<u8>,
    ends: Vec<usize>,
}

impl Args {
    pub(crate) fn push(&mut self, argument: impl AsRef<[u8]>) {
        self.data.extend_from_slice(argument.as_ref());
        self.ends.push(self.data.len());
    }

    /// Adds a number, or anything else as it is displayed.
    pub(crate) fn push_shown(&mut self, argument: impl Display) {
        // Writing to memory does not fail.
        let _ = write!(self.data, "{argument}");
        self.ends.push(self.data.len());
    }

    /// Adds what `write` appends, as one argument.
    pub(crate) fn push_with<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let start = self.data.len();
        if let Err(error) = write(&mut self.data) {
            self.data.truncate(start);
            return Err(error);
        }
        self.ends.push(self.data.len());
        Ok(())
    }

    pub(crate) fn append(&mut self, other: &Self) {
        let start = self.data.len();
        self.data.extend_from_slice(&other.data);
        self.ends.extend(other.ends.iter().map(|end| start + end));
    }

    /// How many bytes there are in all.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The one at a place; empty if there is none.
    pub(crate) fn get(&self, place: usize) -> &[u8] {
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default();
        let end = self.ends.get(place).copied().unwrap_or_default();
        self.data.get(start..end).unwrap_or_default()
    }

    /// Those from a place on.
    pub(crate) fn from(&self, place: usize) -> impl Iterator<Item = &[u8]> {
        (place..self.len()).map(|place| self.get(place))
    }

    /// Drops those from a place on.
    pub(crate) fn truncate(&mut self, place: usize) {
        self.ends.truncate(place);
        self.data.truncate(self.ends.last().copied().unwrap_or_default());
    }

    /// Adds all of them to a command.
    pub(crate) fn write(&self, command: &mut Cmd) {
        for argument in self.from(0) {
            command.arg(argument);
        }
    }
}
