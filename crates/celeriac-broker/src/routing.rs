//! How topic and headers exchanges choose.

use celeriac_core::{Error, Headers, Map, Result, Value};

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

/// Whether the `arguments` of a binding to a headers exchange match a message's headers.
///
/// Every header that `arguments` names must be there with the same value; with null, whatever its value is. The argument `x-match` may say
/// `any` instead of `all`: then one of them suffices. Names that begin with `x-` are left out of it, save with `all-with-x` and `any-with-x`.
///
/// # Examples
/// ```
/// use celeriac_broker::headers_match;
/// use celeriac_core::{Headers, Map, Value};
///
/// let mut headers = Headers::new();
/// headers.set_extra("colour", "red");
/// let wanted = |entries: &[(&str, &str)]| entries.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect::<Map>();
/// assert!(headers_match(&wanted(&[("colour", "red")]), &headers));
/// assert!(!headers_match(&wanted(&[("colour", "red"), ("size", "big")]), &headers));
/// assert!(headers_match(&wanted(&[("x-match", "any"), ("colour", "red"), ("size", "big")]), &headers));
/// ```
#[must_use]
pub fn headers_match(arguments: &Map, headers: &Headers) -> bool {
    let manner = arguments.get(X_MATCH).and_then(Value::as_str).unwrap_or("all");
    let counts = |name: &str| name != X_MATCH && (manner.ends_with("-with-x") || !name.starts_with("x-"));
    let mut wanted = arguments.iter().filter(|(name, _)| counts(name));
    let there =
        |(name, value): (&str, &Value)| headers.get(name).is_some_and(|found| value.is_null() || found == *value);
    if manner.starts_with("any") { wanted.any(there) } else { wanted.all(there) }
}

/// Sees to it that the argument `x-match` of a binding to a headers exchange, if there is one, says something: for brokers to call in `declare`.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the argument, and what it may say.
pub fn check_headers_binding(arguments: &Map) -> Result<()> {
    const MANNERS: [&str; 4] = ["all", "any", "all-with-x", "any-with-x"];
    match arguments.get(X_MATCH) {
        Some(manner) if !manner.as_str().is_some_and(|manner| MANNERS.contains(&manner)) => {
            let why = format!("argument `{X_MATCH}` of a binding is one of {}, not {manner:?}", MANNERS.join(", "));
            Err(Error::config("declare queue", why))
        }
        _ => Ok(()),
    }
}

const X_MATCH: &str = "x-match";

#[cfg(test)]
mod tests {
    use super::*;

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

    fn map(entries: &[(&str, Value)]) -> Map {
        entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn headers_match_as_rabbitmq_says() {
        let mut headers = Headers::new();
        headers.set_extra("a", 1);
        headers.set_extra("x-b", "2");
        let (all, any) = (Value::from("all"), Value::from("any"));
        for (wanted, expected) in [
            (map(&[]), true),
            (map(&[("x-match", any.clone())]), false),
            (map(&[("a", Value::Int(1))]), true),
            (map(&[("a", Value::Int(2))]), false),
            (map(&[("a", Value::Null)]), true),
            (map(&[("c", Value::Null)]), false),
            (map(&[("x-match", all), ("a", Value::Int(1)), ("x-b", Value::from("3"))]), true),
            (map(&[("x-match", "all-with-x".into()), ("a", Value::Int(1)), ("x-b", Value::from("3"))]), false),
            (map(&[("x-match", any), ("a", Value::Int(2)), ("x-b", Value::from("2"))]), false),
            (map(&[("x-match", "any-with-x".into()), ("a", Value::Int(2)), ("x-b", Value::from("2"))]), true),
        ] {
            assert_eq!(headers_match(&wanted, &headers), expected, "{wanted:?}");
        }
    }

    #[test]
    fn a_manner_of_matching_that_does_not_exist_is_named() {
        let error = check_headers_binding(&map(&[("x-match", "some".into())])).unwrap_err();
        assert!(error.to_string().contains("`x-match`"), "{error}");
        check_headers_binding(&map(&[("x-match", "any".into())])).unwrap();
    }
}
