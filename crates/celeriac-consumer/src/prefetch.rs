//! How many tasks to hold ready: as many as will run in a moment, and no more.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Prefetch;

/// What is fetched ahead is meant to have started within this time.
const HORIZON: Duration = Duration::from_millis(50);
/// The rate is taken over at least this long, so that a single batch does not decide it.
const SAMPLE: Duration = Duration::from_millis(5);
/// The shortest time that tasks are taken to have needed.
const SHORTEST: Duration = Duration::from_micros(10);
/// So many times as many as ended since the last sample are fetched ahead at most: a few light tasks now and then say little of the many that may come.
const GROWTH: u64 = 4;

/// Measures the rate at which tasks end while there are any: where they come slower than they are worked, more at a time is what helps.
#[derive(Debug)]
pub(crate) struct Gauge {
    mode: Prefetch,
    since: Instant,
    /// The part of the time since then in which there was nothing to do.
    idle: Duration,
    ended: u64,
    per_second: f64,
    /// What has been worked lately bounds what is fetched ahead.
    most: u64,
    /// How many tasks had ended when some were handed back for having waited too long.
    handed_back: Option<u64>,
}

impl Gauge {
    pub(crate) fn new(mode: Prefetch, now: Instant) -> Self {
        Self { mode, since: now, idle: Duration::ZERO, ended: 0, per_second: 0.0, most: 0, handed_back: None }
    }

    /// Notes that there was nothing to do from one instant to another.
    pub(crate) fn idled(&mut self, from: Instant, to: Instant) {
        self.idle += to.saturating_duration_since(from.max(self.since));
    }

    /// Notes that tasks were handed back for having waited too long: until another has ended, more would only wait again, and be taken from
    /// under the hands of those who would run them.
    pub(crate) fn handed_back(&mut self, ended: u64) {
        self.handed_back = Some(ended);
    }

    /// The prefetch to use now, when `ended` tasks have ended in all.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is an estimate, and is clamped to the limit"
    )]
    pub(crate) fn prefetch(&mut self, ended: u64, now: Instant) -> usize {
        if self.handed_back.is_some_and(|then| ended <= then) {
            return 0;
        }
        self.handed_back = None;
        let limit = match self.mode {
            Prefetch::Fixed(count) => return count,
            Prefetch::Adaptive(limit) => limit,
        };
        let passed = now.duration_since(self.since);
        let (count, busy) = (ended.saturating_sub(self.ended), passed.saturating_sub(self.idle).max(SHORTEST));
        // What has only just begun tells nothing yet.
        if passed >= SAMPLE && (count > 0 || busy >= SAMPLE) {
            let latest = count as f64 / busy.as_secs_f64();
            // Falls at once and rises by halves: a queue that turns slow must not be hoarded.
            self.per_second = if latest < self.per_second { latest } else { (self.per_second + latest) / 2.0 };
            self.most = GROWTH * count;
            (self.since, self.idle, self.ended) = (now, Duration::ZERO, ended);
        }
        ((self.per_second * HORIZON.as_secs_f64()).min(self.most as f64) as usize).min(limit)
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

    #[tokio::test]
    async fn tasks_that_come_slower_than_they_are_worked_are_as_fast_as_before() {
        let start = Instant::now();
        let mut gauge = Gauge::new(Prefetch::Adaptive(1_000), start);
        let later = |millis: u64| start + Duration::from_millis(millis);
        assert_eq!(gauge.prefetch(1_000, later(100)), 250);
        gauge.idled(later(50), later(400));
        assert_eq!(gauge.prefetch(2_000, later(500)), 375, "a thousand in a tenth of a second, as before");
        gauge.idled(later(501), later(599));
        assert_eq!(gauge.prefetch(2_000, later(600)), 375, "too short a time to tell");
        assert_eq!(gauge.prefetch(2_001, later(700)), 0);
    }

    #[tokio::test]
    async fn a_few_light_tasks_now_and_then_are_no_reason_to_fetch_many() {
        let start = Instant::now();
        let mut gauge = Gauge::new(Prefetch::Adaptive(1_000), start);
        for second in 1..10 {
            let now = start + Duration::from_secs(second);
            gauge.idled(now - Duration::from_millis(999), now);
            assert!(gauge.prefetch(second, now) <= 4);
        }
    }

    #[tokio::test]
    async fn nothing_is_fetched_ahead_after_tasks_were_handed_back_until_one_has_ended() {
        let now = Instant::now();
        let mut gauge = Gauge::new(Prefetch::Fixed(10), now);
        assert_eq!(gauge.prefetch(5, now), 10);
        gauge.handed_back(5);
        assert_eq!(gauge.prefetch(5, now), 0);
        assert_eq!(gauge.prefetch(6, now), 10);
    }
}
