//! `Patience`: asking a server again and again, and giving up at last.
//!
//! As `eventually`, for futures that are `Send`: one that lends to an async closure is not.

use std::time::{Duration, Instant};

/// How long any server may take to do what it was asked for.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Patience(Instant);

impl Patience {
    pub(crate) fn new() -> Self {
        Self(Instant::now() + PATIENCE)
    }

    /// Lets some time pass. Panics with `what` is still not so, and the `log` of who is to blame, when it has run out.
    pub(crate) async fn pause(&self, what: &str, log: impl FnOnce() -> String) {
        assert!(Instant::now() < self.0, "not within {PATIENCE:?}: {what}\n{}", log());
        tokio::time::sleep(Duration::from_millis(2)).await; // wait: a server says nothing unless it is asked
    }
}
