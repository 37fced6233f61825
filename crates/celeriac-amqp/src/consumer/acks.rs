//! Acknowledgements, many in few.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// How long an acknowledgement may wait for others.
const PAUSE: Duration = Duration::from_millis(2);
/// No more wait than one for so many deliveries in hand: what they make room for is not missed.
const SHARE: usize = 8;

/// Acknowledgements that are still to be sent.
///
/// Tasks end one by one, and a server has about as much work with one acknowledgement as with one that stands for many.
#[derive(Debug, Default)]
pub(super) struct Acks {
    waiting: Vec<u64>,
    /// When those that wait are to go at the latest.
    due: Option<Instant>,
    sent_at: Option<Instant>,
}

impl Acks {
    pub(super) fn add(&mut self, tag: u64) {
        self.waiting.push(tag);
    }

    /// Whether to send them now, with so many deliveries in hand.
    pub(super) fn are_due(&mut self, in_hand: usize, now: Instant) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let due = *self.due.get_or_insert_with(|| self.sent_at.map_or(now, |sent| now.max(sent + PAUSE)));
        due <= now || self.waiting.len().saturating_mul(SHARE) >= in_hand
    }

    /// When those that wait are to be sent; `None` if there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What to send for them, if all before the tag `settled_before` is settled: see [`coalesced`].
    pub(super) fn take(&mut self, settled_before: u64, now: Instant) -> Vec<(u64, bool)> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        (self.due, self.sent_at) = (None, Some(now));
        coalesced(std::mem::take(&mut self.waiting), settled_before)
    }
}

/// What has come on a channel, by the server's tags.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// Everything up to this tag.
    through: u64,
    /// What has come behind: each subscription brings its deliveries on its own account, and one may be ahead of another.
    ahead: BTreeSet<u64>,
}

impl Came {
    pub(super) fn add(&mut self, tag: u64) {
        if tag != self.before() {
            self.ahead.insert(tag);
            return;
        }
        self.through = tag;
        while self.ahead.remove(&self.before()) {
            self.through += 1;
        }
    }

    /// Everything before this tag has come. What has not may be on its way here, and must not be acknowledged along with what is behind it.
    pub(super) fn before(&self) -> u64 {
        self.through + 1
    }
}

/// The fewest acknowledgements that tell `acks`, if all before the tag `settled_before` is settled: one for those before it, one for each
/// behind. A tag, and whether it stands for those before it too.
fn coalesced(mut acks: Vec<u64>, settled_before: u64) -> Vec<(u64, bool)> {
    acks.sort_unstable();
    let before = acks.partition_point(|tag| *tag < settled_before);
    let (before, behind) = acks.split_at(before);
    let multiple = before.last().map(|last| (*last, before.len() > 1));
    multiple.into_iter().chain(behind.iter().map(|tag| (*tag, false))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_of_all_that_came_first_go_as_one() {
        assert_eq!(coalesced(vec![3, 1, 2], 4), [(3, true)]);
        assert_eq!(coalesced(vec![5], 6), [(5, false)]);
        assert_eq!(coalesced(vec![], 1), []);
    }

    #[test]
    fn acknowledgements_behind_one_that_is_not_settled_go_one_by_one() {
        assert_eq!(coalesced(vec![1, 2, 4, 6], 3), [(2, true), (4, false), (6, false)]);
        assert_eq!(coalesced(vec![4, 5], 1), [(4, false), (5, false)]);
    }

    #[test]
    fn acknowledgements_wait_for_one_another_but_not_for_long() {
        let (mut acks, start) = (Acks::default(), Instant::now());
        acks.add(1);
        assert!(acks.are_due(1_000, start), "nothing was sent just before");
        assert_eq!(acks.take(2, start), [(1, false)]);
        assert!(!acks.are_due(1_000, start), "there is nothing to send");
        [2, 3].into_iter().for_each(|tag| acks.add(tag));
        assert!(!acks.are_due(1_000, start + PAUSE / 2));
        assert_eq!(acks.due(), Some(start + PAUSE));
        assert!(acks.are_due(1_000, start + PAUSE));
        assert_eq!(acks.take(4, start + PAUSE), [(3, true)]);
        assert_eq!(acks.due(), None);
    }

    #[test]
    fn acknowledgements_do_not_wait_where_little_else_is_in_hand() {
        let (mut acks, start) = (Acks::default(), Instant::now());
        acks.take(1, start);
        acks.add(1);
        acks.take(2, start);
        acks.add(2);
        assert!(!acks.are_due(SHARE + 1, start));
        assert!(acks.are_due(SHARE, start));
        assert!(acks.are_due(0, start));
    }

    #[test]
    fn what_came_behind_something_that_is_still_on_its_way_is_acknowledged_for_itself() {
        let mut came = Came::default();
        [1, 2, 4, 5].into_iter().for_each(|tag| came.add(tag));
        assert_eq!(coalesced(vec![1, 2, 4, 5], came.before()), [(2, true), (4, false), (5, false)]);
        came.add(3);
        assert_eq!(coalesced(vec![3], came.before()), [(3, false)]);
        [6, 7].into_iter().for_each(|tag| came.add(tag));
        assert_eq!(coalesced(vec![6, 7], came.before()), [(7, true)]);
    }
}
