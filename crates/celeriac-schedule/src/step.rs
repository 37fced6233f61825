//! What a leader does.

use bytes::Bytes;
use celeriac_broker::Outgoing;
use celeriac_core::{EntryName, Error};

use crate::entry::Revision;

/// One entry's next state.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The entry.
    pub name: EntryName,
    /// The revision of the definition that it was computed from.
    pub revision: Revision,
    /// How many steps of the entry came before.
    pub steps: u64,
    /// The state that it leaves.
    pub state: Bytes,
    /// What is published with it, in order. Needs [`ScheduleCapabilities::publishes`](crate::ScheduleCapabilities::publishes) unless empty.
    pub publish: Vec<Outgoing>,
}

impl Step {
    /// A step that publishes nothing.
    #[must_use]
    pub fn new(name: EntryName, revision: Revision, steps: u64, state: impl Into<Bytes>) -> Self {
        Self { name, revision, steps, state: state.into(), publish: Vec::new() }
    }

    /// Publishes these messages with it.
    #[must_use]
    pub fn publishing(mut self, messages: Vec<Outgoing>) -> Self {
        self.publish = messages;
        self
    }
}

/// What became of a step.
#[derive(Debug)]
pub enum Stepped {
    /// It is taken: the state is kept, and its messages are published.
    Done,
    /// The entry was removed, its definition changed, or another number of steps was taken. Nothing was done.
    Stale,
    /// Its messages cannot be published: why, as [`Broker::publish`](celeriac_broker::Broker::publish) says it. Nothing was done.
    Refused(Error),
}

/// What became of a batch of steps.
#[derive(Debug)]
pub enum Advance {
    /// There has been a newer leader: nothing was done, and nothing ever will be in this term.
    Fenced,
    /// Each step by itself, in their order.
    Stepped(Vec<Stepped>),
}
