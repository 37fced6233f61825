//! Acknowledgements, many in few.

/// The fewest acknowledgements that tell `acks`, the oldest unsettled delivery beside them being `first_left`: one for all before it, one for
/// each behind. A tag, and whether it stands for those before it too.
pub(super) fn coalesced(mut acks: Vec<u64>, first_left: Option<u64>) -> Vec<(u64, bool)> {
    acks.sort_unstable();
    let before = acks.partition_point(|tag| first_left.is_none_or(|first| *tag < first));
    let (before, behind) = acks.split_at(before);
    let multiple = before.last().map(|last| (*last, before.len() > 1));
    multiple.into_iter().chain(behind.iter().map(|tag| (*tag, false))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_of_all_that_came_first_go_as_one() {
        assert_eq!(coalesced(vec![3, 1, 2], None), [(3, true)]);
        assert_eq!(coalesced(vec![5], None), [(5, false)]);
        assert_eq!(coalesced(vec![], None), []);
    }

    #[test]
    fn acknowledgements_behind_one_that_is_not_settled_go_one_by_one() {
        assert_eq!(coalesced(vec![1, 2, 4, 6], Some(3)), [(2, true), (4, false), (6, false)]);
        assert_eq!(coalesced(vec![4, 5], Some(1)), [(4, false), (5, false)]);
    }
}
