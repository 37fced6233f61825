//! Acknowledgements, many in few.

use std::collections::BTreeSet;

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
pub(super) fn coalesced(mut acks: Vec<u64>, settled_before: u64) -> Vec<(u64, bool)> {
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
