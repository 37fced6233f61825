//! The options of a task, and those of one call.

use std::borrow::Cow;
use std::time::Duration;

use celeriac_core::{Error, Map, Priority, QueueName, Result, TaskId, Timestamp, Value};

/// The options that a task is defined with. What is `None` is left to the configuration.
///
/// By Celery's names and with its defaults, save `acks_late`.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct TaskOptions {
    /// Whether the message is acknowledged after the task has ended, so that a crash repeats it, or before it starts, so that it never runs
    /// twice. Default: after. (Celery's default is before.)
    pub acks_late: Option<bool>,
    /// Compression of the body, by Celery's name, such as `zlib` or `zstd`. Default: none.
    pub compression: Option<Cow<'static, str>>,
    /// How long after sending the task may still start. Default: for ever.
    pub expires: Option<Duration>,
    /// Whether no result is stored. Default: it is stored.
    pub ignore_result: Option<bool>,
    /// More urgent tasks go first. Default: 0.
    pub priority: Option<Priority>,
    /// The queue that the task is sent to. Default: by the routing table, else the default queue.
    pub queue: Option<QueueName>,
    /// How long the result is kept. Default: a day.
    pub result_expires: Option<Duration>,
    /// The format of the body, by name, such as `json`. Default: the producer's.
    pub serializer: Option<Cow<'static, str>>,
    /// Whether state `STARTED` is stored when the task starts. Default: no.
    pub track_started: Option<bool>,
}

/// The options of one call; each overrides the task's own.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct CallOptions {
    /// As [`TaskOptions::compression`].
    pub compression: Option<Cow<'static, str>>,
    /// The time to wait before the task may start; `eta` wins over it.
    pub countdown: Option<Duration>,
    /// The instant before which the task may not start.
    pub eta: Option<Timestamp>,
    /// As [`TaskOptions::expires`].
    pub expires: Option<Duration>,
    /// The instant after which the task may not start any more; wins over `expires`.
    pub expires_at: Option<Timestamp>,
    /// Headers of the caller's own; the task sees them, and they survive retries.
    pub headers: Map,
    /// As [`TaskOptions::ignore_result`].
    pub ignore_result: Option<bool>,
    /// As [`TaskOptions::priority`].
    pub priority: Option<Priority>,
    /// As [`TaskOptions::queue`].
    pub queue: Option<QueueName>,
    /// As [`TaskOptions::serializer`].
    pub serializer: Option<Cow<'static, str>>,
    /// A name to show instead of the task's.
    pub shadow: Option<String>,
    /// How long the task may run before it is asked to end. Default: the worker's own. Workers in Rust have no limits.
    pub soft_time_limit: Option<Duration>,
    /// The id of the call. Default: a fresh one. Sending two tasks under one id makes them share one result.
    pub task_id: Option<TaskId>,
    /// How long the task may run before it is ended by force. Default: the worker's own. Workers in Rust have no limits.
    pub time_limit: Option<Duration>,
}

impl CallOptions {
    /// Reads a signature's options, by Celery's names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming the option that is not known or has a value of the wrong type.
    pub fn from_map(options: Map) -> Result<Self> {
        let mut call = Self::default();
        for (name, value) in options {
            if !value.is_null() {
                call.set(&name, value)?;
            }
        }
        Ok(call)
    }

    /// As a signature's options, by Celery's names: what [`CallOptions::from_map`] reads.
    #[must_use]
    pub fn to_map(&self) -> Map {
        let mut map = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                map.insert(name, value);
            }
        };
        let text = |text: &Option<Cow<'static, str>>| text.as_deref().map(Value::from);
        let instant = |instant: Option<Timestamp>| instant.map(|instant| Value::from(instant.to_string()));
        set("compression", text(&self.compression));
        set("countdown", self.countdown.map(seconds));
        set("eta", instant(self.eta));
        set("expires", instant(self.expires_at).or(self.expires.map(seconds)));
        set("headers", Some(&self.headers).filter(|headers| !headers.is_empty()).cloned().map(Value::Map));
        set("ignore_result", self.ignore_result.map(Value::from));
        set("priority", self.priority.map(|priority| Value::from(priority.0)));
        set("queue", self.queue.as_deref().map(Value::from));
        set("serializer", text(&self.serializer));
        set("shadow", self.shadow.as_deref().map(Value::from));
        set("soft_time_limit", self.soft_time_limit.map(seconds));
        set("task_id", self.task_id.as_deref().map(Value::from));
        set("time_limit", self.time_limit.map(seconds));
        map
    }

    /// Fills what is not set from the task's own.
    pub(crate) fn or(self, task: TaskOptions) -> Self {
        Self {
            compression: self.compression.or(task.compression),
            expires: self.expires.or(task.expires),
            ignore_result: self.ignore_result.or(task.ignore_result),
            priority: self.priority.or(task.priority),
            queue: self.queue.or(task.queue),
            serializer: self.serializer.or(task.serializer),
            ..self
        }
    }

    fn set(&mut self, name: &str, value: Value) -> Result<()> {
        let text = || value.as_str().map(|text| Cow::Owned(text.to_owned()));
        let seconds = || value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let instant = || match &value {
            Value::Str(text) => text.parse().ok(),
            Value::DateTime(time) => time.as_str().parse().ok(),
            _ => None,
        };
        let set = match name {
            "compression" => text().map(|text| self.compression = Some(text)),
            "countdown" => seconds().map(|countdown| self.countdown = Some(countdown)),
            "eta" => instant().map(|eta| self.eta = Some(eta)),
            "expires" => seconds()
                .map(|expires| self.expires = Some(expires))
                .or_else(|| instant().map(|expires| self.expires_at = Some(expires))),
            "headers" => value.as_map().map(|headers| self.headers = headers.clone()),
            "ignore_result" => value.as_bool().map(|ignore| self.ignore_result = Some(ignore)),
            "priority" => value
                .as_i64()
                .and_then(|level| u8::try_from(level).ok())
                .map(|level| self.priority = Some(Priority(level))),
            "queue" => value.as_str().and_then(|name| name.parse().ok()).map(|queue| self.queue = Some(queue)),
            "serializer" => text().map(|text| self.serializer = Some(text)),
            "shadow" => value.as_str().map(|shadow| self.shadow = Some(shadow.to_owned())),
            "soft_time_limit" => seconds().map(|limit| self.soft_time_limit = Some(limit)),
            "task_id" => value.as_str().and_then(|id| id.parse().ok()).map(|id| self.task_id = Some(id)),
            "time_limit" => seconds().map(|limit| self.time_limit = Some(limit)),
            _ => {
                let known = "compression, countdown, eta, expires, headers, ignore_result, priority, queue, serializer, shadow, soft_time_limit, \
                             task_id and time_limit";
                return Err(Error::config(
                    "send",
                    format!("unknown option `{name}` of a signature; known are {known}"),
                ));
            }
        };
        set.ok_or_else(|| Error::config("send", format!("option `{name}` of a signature cannot be {value:?}")))
    }
}

/// A number of seconds, whole where it is.
fn seconds(duration: Duration) -> Value {
    if duration.subsec_nanos() == 0 { Value::from(duration.as_secs()) } else { Value::from(duration.as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut call = CallOptions {
            compression: Some("zlib".into()),
            countdown: Some(Duration::from_millis(1500)),
            eta: Some("2026-11-22T06:57:14Z".parse().unwrap()),
            expires: Some(Duration::from_secs(3600)),
            expires_at: None,
            headers: [("tenant", 7)].into_iter().collect(),
            ignore_result: Some(false),
            priority: Some(Priority(9)),
            queue: Some(QueueName::from_static("mail")),
            serializer: Some("msgpack".into()),
            shadow: Some("x".to_owned()),
            soft_time_limit: Some(Duration::from_millis(10)),
            task_id: Some(TaskId::from_static("one")),
            time_limit: Some(Duration::from_secs(20)),
        };
        assert_eq!(call.to_map().get("expires"), Some(&Value::from(3600)));
        assert_eq!(CallOptions::from_map(call.to_map()).unwrap(), call);
        (call.expires, call.expires_at) = (None, call.eta);
        assert_eq!(CallOptions::from_map(call.to_map()).unwrap(), call);
        assert_eq!(CallOptions::default().to_map(), Map::new());
    }

    #[test]
    fn an_unknown_option_is_named() {
        let options = [("que", "mail")].into_iter().collect();
        assert!(CallOptions::from_map(options).unwrap_err().to_string().contains("unknown option `que`"));
    }

    #[test]
    fn expires_is_seconds_or_an_instant() {
        let read = |value: Value| CallOptions::from_map([("expires", value)].into_iter().collect()).unwrap();
        assert_eq!(read(Value::from(1.5)).expires, Some(Duration::from_millis(1500)));
        assert!(read(Value::from("2026-11-22T00:00:00+00:00")).expires_at.is_some());
    }
}
