//! `SqliteConfig`: which file, and how careful with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use celeriac_core::url::decode;
use celeriac_core::{Clock, Error, Result, SystemClock};

/// The longest row that SQLite keeps is a little under 10^9 bytes; the headers need some of it.
const MOST_MESSAGE_BYTES: usize = 900_000_000;

/// How to open the database.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use celeriac_sqlite::{Durability, SqliteConfig};
///
/// let config = SqliteConfig::new("jobs.db").lease(Duration::from_secs(5)).durability(Durability::Normal);
/// let same = SqliteConfig::from_url("sqlite:jobs.db?lease=5&durability=normal")?;
/// assert_eq!(config.path(), same.path());
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    pub(crate) path: PathBuf,
    pub(crate) busy_timeout: Duration,
    pub(crate) lease: Duration,
    pub(crate) max_message_bytes: usize,
    pub(crate) durability: Durability,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What an accepted message or result survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// The death of every process, and the loss of power: each commit waits for the disk. Commits are shared by all who
    /// wait at the moment.
    #[default]
    Full,
    /// The death of every process. A loss of power may undo the last commits; it damages nothing.
    Normal,
}

impl SqliteConfig {
    /// The database at `path`, everything else at its default. The file is created when it does not exist, its directory
    /// is not.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            busy_timeout: Duration::from_secs(30),
            lease: Duration::from_secs(10),
            max_message_bytes: 64 * 1024 * 1024,
            durability: Durability::Full,
            clock: Arc::new(SystemClock),
        }
    }

    /// Reads `sqlite:///absolute/path.db`, `sqlite://relative.db` or `sqlite:relative.db`; `%20` and the like stand for bytes.
    ///
    /// Options follow after `?`, joined by `&`: `busy_timeout` and `lease` in seconds, `max_message_bytes`, and
    /// `durability`, `full` or `normal`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming what is wrong: another scheme, no path, an unknown
    /// option, a value that cannot be read.
    pub fn from_url(url: &str) -> Result<Self> {
        let refuse = |why: String| Error::config("parse url", why);
        let rest = url
            .split_once(':')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("sqlite"))
            .map(|(_, rest)| rest)
            .ok_or_else(|| refuse(format!("`{url}` does not begin with `sqlite:`")))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = decode("the path", path.strip_prefix("//").unwrap_or(path))?;
        if path.is_empty() {
            return Err(refuse(format!("`{url}` names no file")));
        }
        if path == ":memory:" || path == "/:memory:" {
            return Err(refuse("`:memory:` cannot be shared by processes; use `memory://`".to_owned()));
        }
        let mut config = Self::new(path);
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let seconds = || value.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let durability = || match value {
                "full" => Some(Durability::Full),
                "normal" => Some(Durability::Normal),
                _ => None,
            };
            let wrong = || refuse(format!("option `{name}` cannot be `{value}`"));
            match name {
                "busy_timeout" => config.busy_timeout = seconds().ok_or_else(wrong)?,
                "lease" => config.lease = seconds().ok_or_else(wrong)?,
                "max_message_bytes" => config.max_message_bytes = value.parse().map_err(|_| wrong())?,
                "durability" => config.durability = durability().ok_or_else(wrong)?,
                _ => {
                    return Err(refuse(format!(
                        "unknown option `{name}`; known are busy_timeout, lease, max_message_bytes and durability"
                    )));
                }
            }
        }
        Ok(config)
    }

    /// How long to wait for others that hold the database locked. Default 30 seconds.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// How long a process that is stopped, but not dead, keeps what it holds; at least 100 milliseconds, default 10 seconds.
    /// A dead process's messages come back within about a second, whatever is said here.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// The most bytes of one message or one result. Default 64 MiB, at most 900 million.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// What an accepted message or result survives. Default [`Durability::Full`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Where the time comes from. Default the machine's clock; processes that share the file should agree.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |why: &'static str| Err(Error::config("open", why));
        if self.path.as_os_str().is_empty() {
            return refuse("the path of the database is empty");
        }
        if self.lease < Duration::from_millis(100) {
            return refuse("`lease` must be at least 100 milliseconds");
        }
        if self.max_message_bytes == 0 || self.max_message_bytes > MOST_MESSAGE_BYTES {
            return refuse("`max_message_bytes` must be 1 to 900000000");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_url_names_its_path() {
        for (url, path) in [
            ("sqlite:///var/lib/jobs.db", "/var/lib/jobs.db"),
            ("sqlite://jobs.db", "jobs.db"),
            ("sqlite:jobs.db", "jobs.db"),
            ("SQLite:/jobs.db", "/jobs.db"),
            ("sqlite:my%20jobs.db?lease=2.5", "my jobs.db"),
        ] {
            assert_eq!(SqliteConfig::from_url(url).unwrap().path(), Path::new(path), "{url}");
        }
    }

    #[test]
    fn options_are_read() {
        let url = "sqlite:a.db?busy_timeout=1.5&lease=3&max_message_bytes=1024&durability=normal";
        let config = SqliteConfig::from_url(url).unwrap();
        assert_eq!(config.busy_timeout, Duration::from_millis(1500));
        assert_eq!(config.lease, Duration::from_secs(3));
        assert_eq!((config.max_message_bytes, config.durability), (1024, Durability::Normal));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, named) in [
            ("redis://localhost", "`sqlite:`"),
            ("sqlite:", "no file"),
            ("sqlite:a.db?leese=3", "unknown option `leese`"),
            ("sqlite:a.db?lease=long", "option `lease` cannot be `long`"),
            ("sqlite:a.db?durability=maybe", "`durability`"),
            ("sqlite:a%2", "`%`"),
            ("sqlite::memory:", "memory://"),
        ] {
            let error = SqliteConfig::from_url(url).unwrap_err();
            assert!(error.to_string().contains(named), "{url}: {error}");
        }
    }
}
