//! `ManualClock`: a clock that the test owns.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use celeriac_core::{Clock, Timestamp};

type Listener = Box<dyn Fn() + Send>;

/// A clock that stands still until it is told otherwise. Clones are the same clock.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use celeriac_core::Clock;
/// use celeriac_testkit::ManualClock;
///
/// let clock = ManualClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now().since(before), Duration::from_secs(3600));
/// ```
#[derive(Clone)]
pub struct ManualClock(Arc<Shared>);

struct Shared {
    now: Mutex<Timestamp>,
    listeners: Mutex<Vec<Listener>>,
}

impl ManualClock {
    /// A clock that stands at 2026-01-01T00:00:00Z.
    #[must_use]
    pub fn new() -> Self {
        Self::at(Timestamp::from_micros(1_767_225_600_000_000))
    }

    /// A clock that stands at `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(Shared { now: Mutex::new(now), listeners: Mutex::default() }))
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.change(|now| now + by);
    }

    /// Sets the clock, also backwards.
    pub fn set(&self, to: Timestamp) {
        self.change(|_| to);
    }

    /// Calls `listener` after every change. For those who sleep by the clock: `clock.on_change(move || store.wake())`.
    pub fn on_change(&self, listener: impl Fn() + Send + 'static) {
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    fn change(&self, change: impl FnOnce(Timestamp) -> Timestamp) {
        {
            let mut now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
            *now = change(*now);
        }
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|listener| listener());
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}
