//! The configuration of an app: code and environment fill the same struct.

use std::borrow::Cow;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::time::Duration;

use celeriac_core::{Error, QueueName, Result};

/// How an app sends and works. Everything has a default, and nothing has to be set.
///
/// What the code sets wins over the environment, which wins over the defaults. Variables begin with `CELERIAC_`; one that is not known is an
/// error, save those that Kubernetes sets for a Service named `celeriac`: `CELERIAC_SERVICE_HOST`, `CELERIAC_SERVICE_PORT`,
/// `CELERIAC_SERVICE_PORT_<NAME>`, `CELERIAC_PORT`, and `CELERIAC_PORT_<NUMBER>_<PROTOCOL>`, alone or with `_PROTO`, `_PORT` or `_ADDR` behind
/// it. These are passed over. `CELERY_BROKER_URL` and `CELERY_RESULT_BACKEND` are read where Celeriac's own are not set.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Where tasks are sent to: `CELERIAC_BROKER_URL`. Default: the embedded file of the app's name.
    pub broker_url: Option<Secret>,
    /// Where results are stored: `CELERIAC_RESULT_BACKEND`. Default: the broker's own system.
    pub result_backend: Option<Secret>,
    /// Where the schedule is kept: `CELERIAC_SCHEDULE_URL`. Default: the broker's own system, else that of the results.
    pub schedule_url: Option<Secret>,
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
    /// The largest body that is sent or read, in bytes, compressed or not: `CELERIAC_MAX_BODY_BYTES`. Default: 64 MiB.
    pub max_body_bytes: Option<usize>,
    /// The largest result that is stored, in bytes: `CELERIAC_MAX_RESULT_BYTES`. Default: 64 MiB.
    pub max_result_bytes: Option<usize>,
}

/// A URL that may hold a password: its debug form shows the scheme alone, and nothing of what is no URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.split_once("://") {
            Some((scheme, _)) => write!(f, "{scheme}://..."),
            None => f.write_str("..."),
        }
    }
}

const CELERYS_BROKER: &str = "CELERY_BROKER_URL";
const CELERYS_BACKEND: &str = "CELERY_RESULT_BACKEND";

impl Config {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the variable that is not known, cannot be read or is not UTF-8.
    pub fn from_env() -> Result<Self> {
        Self::from_os_vars(std::env::vars_os())
    }

    fn from_os_vars(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self> {
        // Only our own are looked at: what else is in the environment may be anything.
        let ours = vars.into_iter().filter_map(|(name, value)| {
            let name = name.to_string_lossy().into_owned();
            let read = key_of(&name).is_some() || [CELERYS_BROKER, CELERYS_BACKEND].contains(&name.as_str());
            read.then_some((name, value))
        });
        let texts = ours.map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(Error::config("read environment", format!("variable `{name}`: its value is not UTF-8"))),
        });
        Self::from_vars(texts.collect::<Result<Vec<_>>>()?)
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
                CELERYS_BROKER => broker = Some(Secret(value)),
                CELERYS_BACKEND => backend = Some(Secret(value)),
                _ => {
                    if let Some(key) = key_of(&name) {
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
            "SCHEDULE_URL" => self.schedule_url = Some(Secret(value)),
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
                    "it is not known; known after `CELERIAC_` are BROKER_URL, RESULT_BACKEND, SCHEDULE_URL, CONCURRENCY, QUEUES, DEFAULT_QUEUE, SERIALIZER, \
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
            schedule_url: self.schedule_url.or(other.schedule_url),
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

/// What a variable is called behind `CELERIAC_`; `None` if it is none of ours.
fn key_of(name: &str) -> Option<&str> {
    name.strip_prefix("CELERIAC_").filter(|key| !is_of_kubernetes(key))
}

/// Whether Kubernetes sets the variable `CELERIAC_<key>` in every pod beside a Service named `celeriac`.
fn is_of_kubernetes(key: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    if matches!(key, "SERVICE_HOST" | "SERVICE_PORT" | "PORT") {
        return true;
    }
    if let Some(port) = key.strip_prefix("SERVICE_PORT_") {
        return is_name(port);
    }
    let mut parts = key.strip_prefix("PORT_").into_iter().flat_map(|key| key.split('_'));
    parts.next().is_some_and(|number| number.parse::<u16>().is_ok())
        && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
        && matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"))
        && parts.next().is_none()
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
    fn the_schedule_has_a_variable_of_its_own_and_code_wins() {
        let config = read(&[("CELERIAC_SCHEDULE_URL", "redis://:hunter2@host/0")]).unwrap();
        assert_eq!(config.schedule_url, Some(Secret("redis://:hunter2@host/0".to_owned())));
        assert!(!format!("{config:?}").contains("hunter2"));
        let code = Config { schedule_url: Some(Secret("memory://a".to_owned())), ..Config::default() };
        assert_eq!(code.clone().or(config), code);
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
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && shown.contains("redis://..."), "{shown}");
        for text in ["hunter2", "hunter2:x", ":hunter2", ""] {
            assert_eq!(format!("{:?}", Secret(text.to_owned())), "...");
        }
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_is_passed_over() {
        let set = [
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTP_ALT",
            "PORT",
            "PORT_8080_TCP",
            "PORT_8080_TCP_PROTO",
            "PORT_8080_TCP_PORT",
            "PORT_53_UDP_ADDR",
        ];
        for key in set {
            assert_eq!(
                read(&[(&format!("CELERIAC_{key}"), "tcp://10.0.0.1:8080")]).unwrap(),
                Config::default(),
                "{key}"
            );
        }
        for key in [
            "SERVICE",
            "SERVICE_PORT_",
            "SERVICE_HOSTS",
            "PORTS",
            "PORT_",
            "PORT_X_TCP",
            "PORT_80_TCP_X",
            "PORT_80_TCP_ADDR_X",
        ] {
            assert!(read(&[(&format!("CELERIAC_{key}"), "x")]).is_err(), "{key}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_utf_8_is_named() {
        use std::os::unix::ffi::OsStringExt as _;

        let read = |name: &str| Config::from_os_vars([(name.into(), OsString::from_vec(vec![b'a', 0xff]))]);
        for name in ["CELERIAC_BROKER_URL", "CELERIAC_QUEUES", "CELERY_BROKER_URL"] {
            let error = read(name).unwrap_err();
            assert!(error.to_string().contains(&format!("variable `{name}`: its value is not UTF-8")), "{error}");
        }
        assert_eq!(read("PATH").unwrap(), Config::default());
        assert_eq!(read("CELERIAC_PORT").unwrap(), Config::default());
    }
}
