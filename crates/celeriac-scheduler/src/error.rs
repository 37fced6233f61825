//! How a bad schedule is told: the field, what was given, what is allowed.

use celeriac_core::Error;

/// Longer texts are no schedules.
pub(crate) const LONGEST_TEXT: usize = 1_000;

/// Longer quotes are cut off.
const QUOTED: usize = 64;

/// An error of kind `Config` about what was given for `field`.
pub(crate) fn problem(field: &str, given: &str, message: &str) -> Error {
    Error::config("schedule", format!("{field} `{}`: {message}", quoted(given)))
}

pub(crate) fn quoted(text: &str) -> String {
    let mut letters = text.chars();
    let mut quoted: String = letters.by_ref().take(QUOTED).collect();
    if letters.next().is_some() {
        quoted.push_str("..");
    }
    quoted
}
