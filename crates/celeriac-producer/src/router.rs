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

/// A table of task names and patterns. A task's own name decides wherever it stands; else the first pattern that matches.
///
/// Patterns are Celery's, those of Python's `fnmatch`: `*` stands for any text, `?` for one character, `[abc]` and `[a-z]` for one of these,
/// `[!a-z]` for one that is none of them. A `[` that is never closed stands for itself.
///
/// COMPAT: Celery takes for a pattern only what has a `*` in it, and everything else for a name.
///
/// # Examples
/// ```
/// use celeriac_core::QueueName;
/// use celeriac_producer::{Route, Router};
///
/// let router = Router::new()
///     .route("mail.*", Route::to(QueueName::from_static("mail")))?
///     .route("*", Route::to(QueueName::from_static("rest")))?
///     .route("mail.urgent", Route::to(QueueName::from_static("urgent")))?;
/// assert_eq!(router.find("mail.send").unwrap().queue, "mail");
/// assert_eq!(router.find("mail.urgent").unwrap().queue, "urgent");
/// assert_eq!(router.find("add").unwrap().queue, "rest");
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Router(Vec<Entry>);

#[derive(Debug, Clone)]
struct Entry {
    pattern: String,
    glob: Vec<Piece>,
    route: Route,
}

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
        if self.0.iter().any(|known| known.pattern == pattern) {
            return Err(Error::config("add route", format!("pattern `{pattern}` is routed twice")));
        }
        self.0.push(Entry { glob: compile(&pattern), pattern, route });
        Ok(self)
    }

    /// The route of the task named `task`: that of its own name, else that of the first pattern that matches.
    #[must_use]
    pub fn find(&self, task: &str) -> Option<&Route> {
        let exact = self.0.iter().find(|entry| entry.pattern == task);
        exact.or_else(|| self.0.iter().find(|entry| matches(&entry.glob, task))).map(|entry| &entry.route)
    }
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// `*`
    Any,
    /// `?`
    One,
    Letter(char),
    /// `[a-z]`, or `[!a-z]` if negated: from the first to the last of each pair.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Piece {
    fn takes(&self, letter: char) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Letter(wanted) => *wanted == letter,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&letter)) != *negated
            }
        }
    }
}

fn compile(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = pattern.chars();
    while let Some(letter) = rest.next() {
        pieces.push(match letter {
            '*' => Piece::Any,
            '?' => Piece::One,
            '[' => match class(rest.as_str()) {
                Some((class, behind)) => {
                    rest = behind.chars();
                    class
                }
                None => Piece::Letter('['),
            },
            letter => Piece::Letter(letter),
        });
    }
    pieces
}

/// The class that begins behind a `[`, and what is behind its `]`; `None` if it is never closed. A `]` that comes first stands for itself.
fn class(text: &str) -> Option<(Piece, &str)> {
    let (negated, text) = text.strip_prefix('!').map_or((false, text), |text| (true, text));
    let first = text.chars().next()?;
    let close = first.len_utf8() + text.get(first.len_utf8()..)?.find(']')?;
    let (inside, behind) = (text.get(..close)?, text.get(close + 1..)?);
    let mut ranges = Vec::new();
    let mut letters = inside.chars();
    while let Some(first) = letters.next() {
        let mut ahead = letters.clone();
        let last = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(last)) => {
                letters = ahead;
                last
            }
            _ => first,
        };
        ranges.push((first, last));
    }
    Some((Piece::Class { negated, ranges }, behind))
}

/// Matches in time proportional to pattern times text: only the last `*` is ever tried again.
fn matches(pattern: &[Piece], text: &str) -> bool {
    let (mut at, mut rest) = (0, text.chars());
    let mut star = None;
    while let Some(letter) = rest.clone().next() {
        match pattern.get(at) {
            Some(Piece::Any) => {
                at += 1;
                star = Some((at, rest.clone()));
            }
            Some(piece) if piece.takes(letter) => {
                at += 1;
                rest.next();
            }
            _ => match &mut star {
                Some((behind, from)) => {
                    from.next();
                    (at, rest) = (*behind, from.clone());
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|piece| *piece == Piece::Any)
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
            ("a**", "a", true),
            ("g?ß", "grß", true),
            ("[abc].x", "b.x", true),
            ("[abc].x", "d.x", false),
            ("[abc]", "", false),
            ("job[0-9a-f]", "job7", true),
            ("job[0-9a-f]", "jobe", true),
            ("job[0-9a-f]", "jobx", false),
            ("job[!0-9]*", "jobs.clean", true),
            ("job[!0-9]*", "job1", false),
            ("job[!0-9]*", "job", false),
            ("[]-]", "]", true),
            ("[]-]", "-", true),
            ("[!]]", "]", false),
            ("[-a]", "-", true),
            ("[^a]", "^", true),
            ("[z-a]", "m", false),
            ("[!z-a]", "m", true),
            ("[ä-ü]", "ö", true),
            ("*[0-9]", "a1b2", true),
            ("a[bc", "a[bc", true),
            ("a[bc", "ab", false),
            ("[!", "[!", true),
            ("[]", "[]", true),
            ("[!]", "[!]", true),
        ] {
            assert_eq!(matches(&compile(pattern), text), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn a_pattern_twice_is_refused() {
        let route = Route::to(QueueName::DEFAULT);
        let error = Router::new().route("a", route.clone()).unwrap().route("a", route).unwrap_err();
        assert!(error.to_string().contains("pattern `a` is routed twice"));
    }

    #[test]
    fn a_name_wins_over_patterns_wherever_it_stands() {
        let to = |queue| Route::to(QueueName::from_static(queue));
        let routes = [("*", "rest"), ("mail.*", "mail"), ("mail.urgent", "urgent"), ("job[1]", "one")];
        let router = routes
            .into_iter()
            .try_fold(Router::new(), |router, (pattern, queue)| router.route(pattern, to(queue)))
            .unwrap();
        for (task, queue) in [("mail.urgent", "urgent"), ("mail.send", "rest"), ("job[1]", "one"), ("job1", "rest")] {
            assert_eq!(router.find(task).unwrap().queue, queue, "{task}");
        }
    }
}
