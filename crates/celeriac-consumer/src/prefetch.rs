//! How many tasks to hold ready: as many as will run in a moment, and no more.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Prefetch;

/// What is fetched ahead is meant to have started within this time.
const HORIZON: Duration = Duration::from_millis(50);
/// The rate is taken over at least this long, so that a single batch does not decide it.
const SAMPLE: Duration = Duration::from_millis(5);

/// Measures the rate at which tasks end.
#[derive(Debug)]
pub(crate) struct Gauge {
    mode: Prefetch,
    since: Instant,
    ended: u64,
    per_second: f64,
}

impl Gauge {
    pub(crate) fn new(mode: Prefetch, now: Instant) -> Self {
        Self { mode, since: now, ended: 0, per_second: 0.0 }
    }

    /// The prefetch to use now, when `ended` tasks have ended in all.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is an estimate, and is clamped to the limit"
    )]
    pub(crate) fn prefetch(&mut self, ended: u64, now: Instant) -> usize {
        let limit = match self.mode {
            Prefetch::Fixed(count) => return count,
            Prefetch::Adaptive(limit) => limit,
        };
        let passed = now.duration_since(self.since);
        if passed >= SAMPLE {
            let latest = ended.saturating_sub(self.ended) as f64 / passed.as_secs_f64();
            // Falls at once and rises by halves: a queue that turns slow must not be hoarded.
            self.per_second = if latest < self.per_second { latest } else { (self.per_second + latest) / 2.0 };
            (self.since, self.ended) = (now, ended);
        }
        ((self.per_second * HORIZON.as_secs_f64()) as usize).min(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slow_tasks_are_not_hoarded_and_fast_ones_come_in_batches() {
        let start = Instant::now();
        let mut gauge = Gauge::new(Prefetch::Adaptive(1_000), start);
        assert_eq!(gauge.prefetch(0, start), 0);
        let second = |n: u64| start + Duration::from_secs(n);
        assert_eq!(gauge.prefetch(2, second(1)), 0);
        assert_eq!(gauge.prefetch(1_002, second(2)), 25);
        assert_eq!(gauge.prefetch(1_000_000, second(3)), 1_000);
        assert_eq!(gauge.prefetch(1_000_001, second(4)), 0);
    }
}
