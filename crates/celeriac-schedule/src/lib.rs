//! The trait that a store of schedules implements for celeriac. No implementation lives here.
//!
//! Part of [celeriac](https://docs.rs/celeriac); most users want that crate. Take this one to write a store of your own, and prove it with the
//! conformance suite of `celeriac-testkit`.
//!
//! A store keeps entries: a name, a definition that people and programs write, and a state that the leader writes. Both are bytes to it: it
//! knows nothing of schedules, and nothing of time but when the leader's lease ends. What it answers for is who leads, and that each step is taken
//! once.
//!
//! # Leading
//! Any number of schedulers may share a store. [`ScheduleStore::lead`] makes one of them the leader, for as long as it renews its lease, and gives
//! it a [`Term`]: a number that is larger for each new leader. [`ScheduleStore::advance`] takes the term, and refuses every one but the newest: a
//! leader that was stopped, replaced and woken again does nothing.
//!
//! # Steps
//! A [`Step`] is an entry's next state. It names what it was computed from: the [`Revision`] of the definition, and the number of steps before. If
//! either has changed, nothing is done. So a call whose answer was lost is simply made again.
//!
//! Where the store and the broker are one system, a step carries the messages that it causes: they are published if and only if the step is taken.

mod entry;
mod lead;
mod step;
mod store;

/// What the trait is implemented with; re-exported so that authors need no dependency of their own.
pub use async_trait::async_trait;
pub use celeriac_broker::Outgoing;
pub use celeriac_core::{EntryName, Error, ErrorKind, Result, StoreId};
pub use entry::{Change, Changes, Condition, Put, Revision, StoredEntry};
pub use lead::{Lead, Term};
pub use step::{Advance, Step, Stepped};
pub use store::{ScheduleCapabilities, ScheduleStore};
