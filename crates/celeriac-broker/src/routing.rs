//! Topic patterns.

/// Whether a topic exchange's `pattern` matches `key`: words apart by dots, `*` for exactly one word, `#` for any number, also none.
///
/// # Examples
/// ```
/// use celeriac_broker::topic_matches;
///
/// assert!(topic_matches("task.#", "task.failed"));
/// assert!(topic_matches("*.stock.#", "usd.stock"));
/// assert!(!topic_matches("task.*", "task"));
/// ```
#[must_use]
pub fn topic_matches(pattern: &str, key: &str) -> bool {
    let words: Vec<&str> = if key.is_empty() { Vec::new() } else { key.split('.').collect() };
    // reached[n]: the pattern read so far matches the first n words. One row suffices, and no pattern is exponential.
    let mut reached = vec![false; words.len() + 1];
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    if pattern.is_empty() {
        return words.is_empty();
    }
    for part in pattern.split('.') {
        let mut next = vec![false; words.len() + 1];
        let mut before = false;
        for (at, slot) in next.iter_mut().enumerate() {
            let here = reached.get(at).copied().unwrap_or(false);
            *slot = match part {
                "#" => {
                    before |= here;
                    before
                }
                _ => at.checked_sub(1).is_some_and(|last| {
                    reached.get(last).copied().unwrap_or(false) && (part == "*" || words.get(last) == Some(&part))
                }),
            };
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::topic_matches;

    #[test]
    fn patterns_match_as_amqp_says() {
        for (pattern, key, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("#", "", true),
            ("#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.#.d", "a.b.c.d", true),
            ("a.#.d", "a.d", true),
            ("#.#.*", "a", true),
            ("*.#.*", "a", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(topic_matches(pattern, key), expected, "{pattern} against {key}");
        }
    }

    #[test]
    fn a_pattern_of_many_hashes_is_no_trap() {
        let pattern = vec!["#"; 60].join(".") + ".x";
        assert!(!topic_matches(&pattern, &vec!["a"; 120].join(".")));
    }
}
