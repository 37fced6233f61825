//! The one error type of the seams: brokers, result backends and serializers all speak it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

/// Result of a seam's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the terms a caller decides by.
///
/// Decide with [`Error::kind`] and [`Error::is_retryable`], never by the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller's configuration is wrong: a URL, an option, a path, a name. Retrying does not help.
    Config,
    /// What came from outside cannot be read: a body, a header, a stored record.
    Malformed,
    /// The named thing does not exist: a task, a queue, a result.
    NotFound,
    /// A configured limit was passed: a body, a result, a decompressed size.
    TooLarge,
    /// The deadline passed before the operation was known to have succeeded. It may or may not have happened.
    Timeout,
    /// The system cannot be reached or is busy, full or locked for now. Retrying may help.
    Unavailable,
    /// The system cannot do this at all; see its capabilities.
    Unsupported,
    /// The stored data or the program itself is in a state that should not occur.
    Unexpected,
}

impl ErrorKind {
    const fn describe(self) -> &'static str {
        match self {
            Self::Config => "bad configuration",
            Self::Malformed => "malformed data",
            Self::NotFound => "not found",
            Self::TooLarge => "too large",
            Self::Timeout => "timed out",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::Unexpected => "unexpected failure",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe())
    }
}

/// An error of a seam: its kind, the operation that met it, a message and its source.
///
/// `Display` prints operation, kind and message, and leaves the source to [`StdError::source`].
///
/// # Examples
/// ```
/// use celeriac_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::NotFound, "send", "task `mail.send` is not registered");
/// assert_eq!(error.to_string(), "send: not found: task `mail.send` is not registered");
/// assert!(!error.is_retryable());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    message: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of `kind`, met by `operation` (a verb, such as `publish`).
    ///
    /// `message` is lowercase, without a full stop, and names things in backticks.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, operation, message: message.into(), source: None }))
    }

    /// [`ErrorKind::Config`].
    #[must_use]
    pub fn config(operation: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, operation, message)
    }

    /// [`ErrorKind::Malformed`].
    #[must_use]
    pub fn malformed(operation: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Malformed, operation, message)
    }

    /// [`ErrorKind::Unsupported`].
    #[must_use]
    pub fn unsupported(operation: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, operation, message)
    }

    /// [`ErrorKind::Unavailable`].
    #[must_use]
    pub fn unavailable(operation: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unavailable, operation, message)
    }

    /// [`ErrorKind::Unexpected`].
    #[must_use]
    pub fn unexpected(operation: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unexpected, operation, message)
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that met the error.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The message alone, without operation and kind.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the same call may succeed later: the kind is [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`].
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::Timeout)
    }

    /// The error and its sources in one line, joined by `: `. For logs and stored failures.
    #[must_use]
    pub fn report(&self) -> String {
        report(self)
    }
}

/// Writes `error` and all its sources in one line, joined by `: `.
#[must_use]
pub fn report(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        // Some foreign errors print their source too; do not say it twice.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = cause.source();
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.0.operation, self.0.kind, self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind).field("operation", &self.0.operation).field("message", &self.0.message);
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_leaves_the_source_to_source() {
        let error = Error::unavailable("publish", "broker is down").with_source(std::io::Error::other("refused"));
        assert_eq!(error.to_string(), "publish: unavailable: broker is down");
        assert_eq!(error.report(), "publish: unavailable: broker is down: refused");
        assert!(error.is_retryable());
    }

    #[test]
    fn an_error_is_one_word_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
