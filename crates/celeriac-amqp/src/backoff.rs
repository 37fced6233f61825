//! How long to wait before trying again.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(2);
/// What lasted so long is no sign that the next will not.
const GOOD: Duration = Duration::from_secs(2);

/// Grows with each failure, up to 2 seconds, and differs from one process to the next: all of them lose their server at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts one failure and says how long to wait for it: nothing for the first one, then any part of what is doubled each time.
    pub(crate) fn next(&mut self) -> Duration {
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        match failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => SHORTEST.saturating_mul(1 << doublings.min(16)).min(LONGEST).mul_f64(fastrand::f64()),
        }
    }

    /// Begins anew if what failed now had lasted for long.
    pub(crate) fn lasted(&mut self, time: Duration) {
        if time > GOOD {
            *self = Self::default();
        }
    }

    /// Waits for as long as [`Backoff::next`] says.
    pub(crate) async fn wait(&mut self) {
        let pause = self.next();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_comes_at_once_and_none_waits_longer_than_the_longest() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(), Duration::ZERO);
        for failure in 0..40 {
            let most = SHORTEST.saturating_mul(1 << failure.min(16)).min(LONGEST);
            assert!(backoff.next() <= most);
        }
    }
    #[test]
    fn only_what_lasted_lets_it_begin_anew() {
        let mut backoff = Backoff::default();
        backoff.next();
        backoff.lasted(GOOD);
        assert_eq!(backoff.failures, 1);
        backoff.lasted(GOOD + Duration::from_millis(1));
        assert_eq!(backoff.next(), Duration::ZERO);
    }
}
