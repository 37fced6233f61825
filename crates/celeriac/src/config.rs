//! The configuration of an app: code and environment fill the same struct.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::time::Duration;

use celeriac_core::{Error, QueueName, Result};

/// How an app sends and works. Everything has a default, and nothing has to be set.
///
/// What the code sets wins over the environment, which wins over the defaults. Variables begin with `CELERIAC_`; one that is not known is an
/// error. `CELERY_BROKER_URL` and `CELERY_RESULT_BACKEND` are read where Celeriac's own are not set.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Where tasks are sent to: `CELERIAC_BROKER_URL`. Default: the embedded file of the app's name.
    pub broker_url: Option<Secret>,
    /// Where results are stored: `CELERIAC_RESULT_BACKEND`. Default: the broker's own system.
    pub result_backend: Option<Secret>,
    /// How many tasks a worker runs at once: `CELERIAC_CONCURRENCY`. Default: the number of CPUs.
    pub concurrency: Option<NonZeroUsize>,
    /// The queues a worker works on, apart by commas: `CELERIAC_QUEUES`. Default: the default queue.
    pub queues: Option<Vec<QueueName>>,
    /// The queue for tasks that nothing else is said of: `CELERIAC_DEFAULT_QUEUE`. Default: `celery`.
    pub default_queue: Option<QueueName>,
    /// The format of bodies, by name: `CELERIAC_SERIALIZER`. Default: `json`.
    pub serializer: Option<Cow<'static, str>>,
    /// The format of results, by name: `CELERIAC_RESULT_SERIALIZER`. Default: `json`.
    pub result_serializer: Option<Cow<'static, str>>,
    /// Further formats accepted in messages and results, by name, apart by commas: `CELERIAC_ACCEPT`. JSON and those that the app itself writes are
    /// accepted anyway.
    pub accept: Option<Vec<String>>,
    /// Compression of bodies, by Celery's name: `CELERIAC_COMPRESSION`. Default: none.
    pub compression: Option<Cow<'static, str>>,
    /// How long publishing may take, in seconds: `CELERIAC_PUBLISH_TIMEOUT`. Default: 10.
    pub publish_timeout: Option<Duration>,
    /// How long results are kept, in seconds: `CELERIAC_RESULT_EXPIRES`. Default: a day.
    pub result_expires: Option<Duration>,
    /// The largest body that is sent or read, in bytes: `CELERIAC_MAX_BODY_BYTES`. Default: 64 MiB.
    pub max_body_bytes: Option<usize>,
    /// The largest result that is stored, in bytes: `CELERIAC_MAX_RESULT_BYTES`. Default: 64 MiB.
    pub max_result_bytes: Option<usize>,
}

/// A URL that may hold a password: its debug form shows the scheme alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:...", self.0.split(':').next().unwrap_or_default())
    }
}

impl Config {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the variable that is not known or cannot be read.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// As [`Config::from_env`], from `vars`.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let mut config = Self::default();
        let (mut broker, mut backend) = (None, None);
        for (name, value) in vars {
            match name.as_str() {
                "CELERY_BROKER_URL" => broker = Some(Secret(value)),
                "CELERY_RESULT_BACKEND" => backend = Some(Secret(value)),
                _ => {
                    if let Some(key) = name.strip_prefix("CELERIAC_") {
                        config.set(key, value).map_err(|error| {
                            Error::config("read environment", format!("variable `{name}`: {}", error.message()))
                        })?;
                    }
                }
            }
        }
        config.broker_url = config.broker_url.or(broker);
        config.result_backend = config.result_backend.or(backend);
        Ok(config)
    }

    fn set(&mut self, key: &str, value: String) -> Result<()> {
        match key {
            "BROKER_URL" => self.broker_url = Some(Secret(value)),
            "RESULT_BACKEND" => self.result_backend = Some(Secret(value)),
            "CONCURRENCY" => self.concurrency = Some(number(&value)?),
            "QUEUES" => self.queues = Some(list(&value).map(|name| name.parse()).collect::<Result<_>>()?),
            "DEFAULT_QUEUE" => self.default_queue = Some(value.parse()?),
            "SERIALIZER" => self.serializer = Some(value.into()),
            "RESULT_SERIALIZER" => self.result_serializer = Some(value.into()),
            "ACCEPT" => self.accept = Some(list(&value).map(str::to_owned).collect()),
            "COMPRESSION" => self.compression = Some(value.into()),
            "PUBLISH_TIMEOUT" => self.publish_timeout = Some(seconds(&value)?),
            "RESULT_EXPIRES" => self.result_expires = Some(seconds(&value)?),
            "MAX_BODY_BYTES" => self.max_body_bytes = Some(number(&value)?),
            "MAX_RESULT_BYTES" => self.max_result_bytes = Some(number(&value)?),
            _ => {
                return Err(Error::config(
                    "read environment",
                    "it is not known; known after `CELERIAC_` are BROKER_URL, RESULT_BACKEND, CONCURRENCY, QUEUES, DEFAULT_QUEUE, SERIALIZER, \
                     RESULT_SERIALIZER, ACCEPT, COMPRESSION, PUBLISH_TIMEOUT, RESULT_EXPIRES, MAX_BODY_BYTES and MAX_RESULT_BYTES",
                ));
            }
        }
        Ok(())
    }

    /// Fills what is not set from `other`.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            broker_url: self.broker_url.or(other.broker_url),
            result_backend: self.result_backend.or(other.result_backend),
            concurrency: self.concurrency.or(other.concurrency),
            queues: self.queues.or(other.queues),
            default_queue: self.default_queue.or(other.default_queue),
            serializer: self.serializer.or(other.serializer),
            result_serializer: self.result_serializer.or(other.result_serializer),
            accept: self.accept.or(other.accept),
            compression: self.compression.or(other.compression),
            publish_timeout: self.publish_timeout.or(other.publish_timeout),
            result_expires: self.result_expires.or(other.result_expires),
            max_body_bytes: self.max_body_bytes.or(other.max_body_bytes),
            max_result_bytes: self.max_result_bytes.or(other.max_result_bytes),
        }
    }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T> {
    value.parse().map_err(|_| Error::config("read environment", format!("`{value}` is no number above 0")))
}

fn seconds(value: &str) -> Result<Duration> {
    let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| Error::config("read environment", format!("`{value}` is no number of seconds")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Config> {
        Config::from_vars(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn celerys_variables_are_read_where_celeriacs_are_not_set() {
        let config = read(&[("CELERY_BROKER_URL", "memory://a"), ("CELERIAC_BROKER_URL", "memory://b")]).unwrap();
        assert_eq!(config.broker_url, Some(Secret("memory://b".to_owned())));
        let config = read(&[("CELERY_BROKER_URL", "memory://a")]).unwrap();
        assert_eq!(config.broker_url, Some(Secret("memory://a".to_owned())));
    }

    #[test]
    fn an_unknown_variable_is_named() {
        let error = read(&[("CELERIAC_BROKERURL", "x")]).unwrap_err();
        assert!(error.to_string().contains("`CELERIAC_BROKERURL`: it is not known"), "{error}");
        let error = read(&[("CELERIAC_CONCURRENCY", "0")]).unwrap_err();
        assert!(error.to_string().contains("`CELERIAC_CONCURRENCY`"), "{error}");
    }

    #[test]
    fn a_password_does_not_reach_the_debug_form() {
        let config = read(&[("CELERIAC_BROKER_URL", "redis://user:hunter2@host/0")]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
