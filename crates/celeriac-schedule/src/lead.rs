//! Who leads.

use std::time::Duration;

/// The number of a leadership: larger for each new leader of a store. A fencing token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// Whether the caller leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lead {
    /// It does, until the lease ends.
    Leading(Term),
    /// Another does.
    Led {
        /// The other's name.
        by: String,
        /// How long its lease lasts if it is not renewed; by the store's clock, so clocks need not agree.
        remaining: Duration,
    },
}
