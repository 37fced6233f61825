//! The routing table: which tasks go to which queue.

use celeriac_core::{Error, Priority, QueueName, Result};

/// Where the tasks of one pattern go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// The queue.
    pub queue: QueueName,
    /// Their priority, unless the task or the call names one.
    pub priority: Option<Priority>,
}

impl Route {
    /// To `queue`.
    #[must_use]
    pub fn to(queue: QueueName) -> Self {
        Self { queue, priority: None }
    }

    /// Sets the priority.
    #[must_use]
    pub fn priority(mut self, priority: impl Into<Priority>) -> Self {
        self.priority = Some(priority.into());
        self
    }
}

/// An ordered table of name patterns; the first that matches decides.
///
/// Patterns are Celery's: `*` stands for any text, `?` for one character.
///
/// # Examples
/// ```
/// use celeriac_core::QueueName;
/// use celeriac_producer::{Route, Router};
///
/// let router = Router::new()
///     .route("mail.*", Route::to(QueueName::from_static("mail")))?
///     .route("*", Route::to(QueueName::from_static("rest")))?;
/// assert_eq!(router.find("mail.send").unwrap().queue, "mail");
/// assert_eq!(router.find("add").unwrap().queue, "rest");
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Router(Vec<(String, Route)>);

impl Router {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route behind those that are there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) if the pattern is empty or there already.
    pub fn route(mut self, pattern: impl Into<String>, route: Route) -> Result<Self> {
        let pattern = pattern.into();
        if pattern.is_empty() {
            return Err(Error::config("add route", "the pattern of a route is empty; `*` matches every task"));
        }
        if self.0.iter().any(|(known, _)| *known == pattern) {
            return Err(Error::config("add route", format!("pattern `{pattern}` is routed twice")));
        }
        self.0.push((pattern, route));
        Ok(self)
    }

    /// The route of the task named `task`, if a pattern matches.
    #[must_use]
    pub fn find(&self, task: &str) -> Option<&Route> {
        self.0.iter().find(|(pattern, _)| glob_matches(pattern, task)).map(|(_, route)| route)
    }
}

/// Matches in time proportional to pattern times text: only the last `*` is ever tried again.
fn glob_matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(letter) = text.get(seen) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == letter => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                Some((star_at, star_seen)) => {
                    star = Some((star_at, star_seen + 1));
                    at = star_at + 1;
                    seen = star_seen + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_celery() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("mail.*", "mail.send", true),
            ("mail.*", "mail", false),
            ("*.send", "a.b.send", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "a__b__b__c", true),
            ("a*b*c", "a__b__", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(glob_matches(pattern, text), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn a_pattern_twice_is_refused() {
        let route = Route::to(QueueName::DEFAULT);
        let error = Router::new().route("a", route.clone()).unwrap().route("a", route).unwrap_err();
        assert!(error.to_string().contains("pattern `a` is routed twice"));
    }
}
