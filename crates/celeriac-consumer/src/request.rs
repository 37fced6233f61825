//! From a message to a task that can be run: protocol 2, and protocol 1 for old senders.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use celeriac_core::{
    CorrelationId, Embed, Error, Headers, Map, Message, Properties, Result, TaskFailure, TaskHeaders, TaskId, Value,
};
use celeriac_serializer::{Body, Compression, Serializer, SerializerExt as _, Serializers};

use crate::arguments::Arguments;
use crate::config::WorkerConfig;
use crate::error::{TaskError, TaskResult, panic_text};

/// A task as it was sent.
pub(crate) struct Request {
    pub(crate) headers: Arc<TaskHeaders>,
    pub(crate) properties: Properties,
    body: Bytes,
    protocol: Protocol,
}

#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    /// The body is one table, which holds what protocol 2 has in the headers.
    One,
    /// The body is `[args, kwargs, embed]`.
    Two,
}

/// A message that cannot be run, and what is known of it.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The task's id, if it could be read: then the failure is stored under it.
    pub(crate) id: Option<TaskId>,
    pub(crate) properties: Properties,
    pub(crate) error: TaskError,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("id", &self.headers.id)
            .field("task", &self.headers.task)
            .finish_non_exhaustive()
    }
}

impl Request {
    /// Reads `message`. Arguments stay in the message's format.
    ///
    /// # Wire format
    /// `celery/worker/strategy.py` and `celery/worker/request.py` (celery 5.7): what is accepted, and how protocol 1 is turned into 2.
    pub(crate) fn read(message: Message, config: &WorkerConfig) -> Result<Self, Box<Refused>> {
        let Message { headers, properties, body } = message;
        if let Some(reason) = headers.malformed() {
            // COMPAT: celery's own class for a task message whose fields cannot be used.
            let failure = TaskFailure::new("celery.exceptions", "InvalidTaskError", reason);
            return Err(Box::new(Refused { id: id_of(&headers), properties, error: failure.into() }));
        }
        let read = guarded(|| Self::open(&headers, &properties, body, config));
        let body = match read {
            Ok(body) => body,
            Err(error) => {
                return Err(Box::new(Refused { id: id_of(&headers), properties, error: TaskError::decode(&error) }));
            }
        };
        match headers.into_task() {
            Ok(headers) => Ok(Self { headers, properties, body, protocol: Protocol::Two }),
            Err(_) => {
                let read = || {
                    let format = format_of(&properties, &config.serializers).map_err(|error| (None, error))?;
                    headers_of_protocol_1(format, &body)
                };
                match guarded_or(read, |error| Err((None, error))) {
                    Ok(headers) => Ok(Self { headers, properties, body, protocol: Protocol::One }),
                    Err((id, error)) => Err(Box::new(Refused { id, properties, error: TaskError::decode(&error) })),
                }
            }
        }
    }

    /// The body, decompressed, if it can be and its format is accepted.
    fn open(headers: &Headers, properties: &Properties, body: Bytes, config: &WorkerConfig) -> Result<Bytes> {
        let size = body.len();
        if size > config.max_body_bytes {
            let message = format!("the body has {size} bytes, the limit is {}", config.max_body_bytes);
            return Err(Error::new(celeriac_core::ErrorKind::TooLarge, "read task", message));
        }
        format_of(properties, &config.serializers)?;
        // Protocol 1 has this one header too.
        let compression = match headers.task() {
            Some(task) => task.compression.clone(),
            None => headers.get("compression").and_then(|name| name.as_str().map(str::to_owned)),
        };
        match compression {
            None => Ok(body),
            Some(name) => Ok(Compression::from_name(&name)?.decompress(&body, config.max_body_bytes)?.into()),
        }
    }

    /// What a reply repeats.
    pub(crate) fn correlation_id(&self) -> CorrelationId {
        correlation_id(&self.properties, &self.headers.id)
    }

    /// The arguments, for the task to take.
    pub(crate) fn arguments<'a>(&'a self, serializers: &'a Serializers) -> TaskResult<Arguments<'a>> {
        let read = || {
            let format = format_of(&self.properties, serializers)?;
            Ok((format, self.split(format)?))
        };
        let (format, body) = read().map_err(|error: Error| TaskError::decode(&error))?;
        self.refuse_canvas(format, &body)?;
        Ok(Arguments::new(self.headers.task.as_str(), format, body))
    }

    fn split(&self, format: &dyn Serializer) -> Result<Body<'_>> {
        match self.protocol {
            Protocol::One => body_of_protocol_1(format, &self.body),
            // COMPAT: a hybrid message has the headers of protocol 2 and the body of protocol 1.
            Protocol::Two => Body::split(format, &self.body).or_else(|error| match has_args(format, &self.body) {
                true => body_of_protocol_1(format, &self.body),
                false => Err(error),
            }),
        }
    }

    /// The arguments as values, for an extended result; `None` if their format does not say what they are.
    pub(crate) fn values(&self, serializers: &Serializers) -> Option<(Value, Value)> {
        guarded_or(|| self.try_values(serializers), |_| None)
    }

    fn try_values(&self, serializers: &Serializers) -> Option<(Value, Value)> {
        let format = format_of(&self.properties, serializers).ok()?;
        let body = self.split(format).ok()?;
        let args = body.args.iter().map(|arg| format.decode_value(arg)).collect::<Result<Vec<_>>>().ok()?;
        let mut kwargs = Map::new();
        for (name, data) in &body.kwargs {
            kwargs.insert(name.as_ref(), format.decode_value(data).ok()?);
        }
        Some((Value::List(args), Value::Map(kwargs)))
    }

    /// What follows the task must not be lost: until a worker carries out canvas, a task that has some is refused.
    fn refuse_canvas(&self, format: &dyn Serializer, body: &Body<'_>) -> TaskResult<()> {
        if Body::PLAIN_EMBEDS.contains(&body.embed.as_ref()) {
            return Ok(());
        }
        // Bincode writes the embed as a value, which only `decode_value` reads; JSON and MessagePack read it without a tree.
        let embed: Option<Embed> = match format.from_bytes(&body.embed) {
            Ok(embed) => embed,
            Err(_) => format
                .decode_value(&body.embed)
                .and_then(Value::deserialize_into)
                .map_err(|error| TaskError::decode(&error))?,
        };
        if embed.is_none_or(|embed| embed.is_empty()) {
            return Ok(());
        }
        Err(TaskFailure::new(
            "celeriac",
            "Unsupported",
            format!(
                "task `{}` has callbacks, a chain or a chord, which this worker cannot carry out",
                self.headers.task
            ),
        )
        .into())
    }
}

/// The format of the body, if it is accepted. Asked for each time, because that is cheap, and to count who uses it is not.
fn format_of<'a>(properties: &Properties, serializers: &'a Serializers) -> Result<&'a dyn Serializer> {
    // A content type that is no MIME type was kept aside, and is named in the error.
    let content_type =
        properties.content_type.as_deref().or_else(|| properties.extra.get("content_type").and_then(Value::as_str));
    serializers.for_content_type(content_type).map(AsRef::as_ref)
}

/// What a reply repeats: the message's own correlation id, else the task's id, as in Celery.
pub(crate) fn correlation_id(properties: &Properties, id: &TaskId) -> CorrelationId {
    properties.correlation_id.clone().unwrap_or_else(|| CorrelationId::from(id))
}

/// Runs code of a registered format on what strangers sent: a panic is an error, and costs no slot.
pub(crate) fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    guarded_or(read, Err)
}

fn guarded_or<T>(read: impl FnOnce() -> T, failed: impl FnOnce(Error) -> T) -> T {
    // Nothing that a panic may have left half done is looked at again.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        failed(Error::unexpected("read task", format!("the serializer panicked: {}", panic_text(panic.as_ref()))))
    })
}

fn id_of(headers: &Headers) -> Option<TaskId> {
    match headers.task() {
        Some(task) => Some(task.id.clone()),
        None => headers.get("id").and_then(|id| id.as_str()?.parse().ok()),
    }
}

fn has_args(format: &dyn Serializer, body: &[u8]) -> bool {
    format.split_map(body).is_ok_and(|entries| entries.iter().any(|(name, _)| name == "args"))
}

/// The fields of protocol 1 that are headers in protocol 2.
const FIELDS: [&str; 9] = ["task", "id", "retries", "eta", "expires", "group", "group_index", "timelimit", "taskset"];

fn headers_of_protocol_1(format: &dyn Serializer, body: &[u8]) -> Result<Arc<TaskHeaders>, (Option<TaskId>, Error)> {
    let no_task = |error: Error| (None, Error::malformed("read task", "the message is no task").with_source(error));
    let mut table = Map::new();
    for (name, data) in format.split_map(body).map_err(no_task)? {
        if FIELDS.contains(&name.as_ref()) {
            table.insert(name.as_ref(), format.decode_value(&data).map_err(no_task)?);
        }
    }
    // COMPAT: `taskset` is the group id of protocol 1, and wins over `group`.
    if let Some(taskset) = table.remove("taskset").filter(|taskset| !taskset.is_null()) {
        table.insert("group", taskset);
    }
    let headers = Headers::from_map(table);
    if let Some(reason) = headers.malformed() {
        let id = headers.get("id").and_then(|id| id.as_str()?.parse().ok());
        return Err((id, Error::malformed("read task", reason.to_owned())));
    }
    headers.into_task().map_err(|_| (None, Error::malformed("read task", "the message is no task: it has no `task`")))
}

fn body_of_protocol_1<'a>(format: &dyn Serializer, body: &'a [u8]) -> Result<Body<'a>> {
    let mut read = Body::default();
    let mut embed: Vec<(Cow<'a, str>, Cow<'a, [u8]>)> = Vec::new();
    for (name, data) in format.split_map(body)? {
        match (name.as_ref(), data) {
            ("args", Cow::Borrowed(data)) if !is_null(format, data) => read.args = format.split_list(data)?,
            ("args", Cow::Owned(data)) if !is_null(format, &data) => {
                read.args = format.split_list(&data)?.into_iter().map(|arg| Cow::Owned(arg.into_owned())).collect();
            }
            ("kwargs", Cow::Borrowed(data)) if !is_null(format, data) => read.kwargs = format.split_map(data)?,
            ("kwargs", Cow::Owned(data)) if !is_null(format, &data) => {
                let owned = |(name, value): (Cow<'_, str>, Cow<'_, [u8]>)| {
                    (Cow::Owned(name.into_owned()), Cow::Owned(value.into_owned()))
                };
                read.kwargs = format.split_map(&data)?.into_iter().map(owned).collect();
            }
            ("callbacks" | "errbacks" | "chord", data) => embed.push((name, data)),
            _ => {}
        }
    }
    let entries: Vec<(&str, &[u8])> = embed.iter().map(|(name, data)| (name.as_ref(), data.as_ref())).collect();
    let mut joined = Vec::new();
    format.join_map(&entries, &mut joined)?;
    read.embed = Cow::Owned(joined);
    Ok(read)
}

fn is_null(format: &dyn Serializer, data: &[u8]) -> bool {
    format.decode_value(data).is_ok_and(|value| value.is_null())
}
