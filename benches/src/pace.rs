//! A steady load: so many a second, in small ticks, whatever became of the last ones.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::scaled;

/// How often something is sent.
const TICK: Duration = Duration::from_millis(5);

/// Says when, and how many.
#[derive(Debug)]
pub struct Pace {
    /// A second.
    rate: f64,
    start: Instant,
    so_far: usize,
    ticks: Interval,
}

impl Pace {
    /// A pace of so many a second, from now on.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { rate, start: Instant::now(), so_far: 0, ticks }
    }

    /// Waits for a tick at which something is due: how many. Who is late has more to do, not less.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn due(&mut self) -> usize {
        loop {
            self.ticks.tick().await;
            let more = self.more(self.start.elapsed());
            if more > 0 {
                return more;
            }
        }
    }

    fn more(&mut self, elapsed: Duration) -> usize {
        let due = scaled(1, self.rate * elapsed.as_secs_f64(), 0);
        let more = due - self.so_far;
        self.so_far = due;
        more
    }

    /// How many were due so far.
    #[must_use]
    pub fn so_far(&self) -> usize {
        self.so_far
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_late_has_more_to_do() {
        let mut pace = Pace::new(1_000.0);
        assert_eq!(pace.more(Duration::from_millis(5)), 5);
        assert_eq!(pace.more(Duration::from_millis(5)), 0);
        assert_eq!(pace.more(Duration::from_millis(2_005)), 2_000);
        assert_eq!(pace.so_far(), 2_005);
    }
}
