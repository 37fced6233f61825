//! From a call to the message that carries it.

use bytes::Bytes;
use celeriac_broker::{Destination, Outgoing};
use celeriac_core::repr::ReprWriter;
use celeriac_core::{
    CorrelationId, Embed, Error, ErrorKind, Headers, Map, Message, Priority, Properties, Result, RoutingKey,
    TaskHeaders, TaskId, TimeLimits, Timestamp, WireTime,
};
use celeriac_serializer::{Compression, Serializer};

use crate::call::{Argument, CallArgs, TypedSignature};
use crate::producer::{Lineage, ProducerConfig};

/// A call made into a message, with what the sender keeps of it.
pub(crate) struct Prepared {
    pub(crate) id: TaskId,
    pub(crate) ignore_result: bool,
    pub(crate) outgoing: Outgoing,
}

/// What the message needs from its producer.
pub(crate) struct Sender<'a> {
    pub(crate) config: &'a ProducerConfig,
    pub(crate) now: Timestamp,
    pub(crate) reply_to: &'a RoutingKey,
    pub(crate) lineage: Option<&'a Lineage>,
    /// Whether the broker keeps messages until they are due.
    pub(crate) delay: bool,
}

/// Builds the message of protocol 2.
///
/// # Wire format
/// `celery/app/amqp.py::as_task_v2` (celery 5.7), but for the `expiration` property: it would make a broker drop an expired task silently,
/// where the worker stores that it was revoked.
pub(crate) fn prepare<R>(call: TypedSignature<R>, sender: &Sender<'_>) -> Result<Prepared> {
    let TypedSignature { task, args, definition, options, error, .. } = call;
    if let Some(error) = error {
        return Err(error);
    }
    let config = sender.config;
    let options = match definition {
        Some(definition) => options.or(definition()),
        None => options,
    };
    let route = config.router.find(&task);
    let queue = options
        .queue
        .or_else(|| route.map(|route| route.queue.clone()))
        .unwrap_or_else(|| config.default_queue.clone());
    let priority = options.priority.or_else(|| route.and_then(|route| route.priority));
    let format = match options.serializer.as_deref() {
        Some(name) => config.serializers.by_name(name)?,
        None => config.serializers.by_name(&config.serializer)?,
    };
    let compression = match options.compression.or_else(|| config.compression.clone()) {
        Some(name) => Some(Compression::from_name(&name)?),
        None => None,
    };

    let id = options.task_id.unwrap_or_else(TaskId::random);
    let name = task.clone();
    let mut headers = TaskHeaders::new(task, id.clone());
    let encoded = encode(args.as_ref(), format.as_ref()).map_err(|error| {
        Error::new(error.kind(), "send", format!("task `{}`: {}", headers.task, error.message())).with_source(error)
    })?;
    (headers.argsrepr, headers.kwargsrepr) = (encoded.argsrepr, encoded.kwargsrepr);
    let eta = options.eta.or_else(|| options.countdown.filter(|wait| !wait.is_zero()).map(|wait| sender.now + wait));
    let expires = options.expires_at.or_else(|| options.expires.map(|after| sender.now + after));
    headers.eta = eta.map(WireTime::from);
    headers.expires = expires.map(WireTime::from);
    headers.ignore_result = options.ignore_result;
    headers.shadow = options.shadow;
    headers.timelimit = TimeLimits { hard: options.time_limit, soft: options.soft_time_limit };
    headers.origin = Some(crate::origin::origin());
    if let Some(lineage) = sender.lineage {
        headers.root_id = Some(lineage.root_id.clone());
        headers.parent_id = Some(lineage.parent_id.clone());
    }
    // The worker's limit holds for the body as it comes, and for what it is decompressed to.
    let check = |size: usize, compressed: &str| {
        let limit = config.max_body_bytes;
        let message = || format!("the body of task `{name}` has {size} bytes{compressed}, the limit is {limit}");
        if size > limit { Err(Error::new(ErrorKind::TooLarge, "send", message())) } else { Ok(()) }
    };
    check(encoded.body.len(), "")?;
    let body = match compression {
        None => encoded.body,
        Some(compression) => {
            headers.compression = Some(compression.content_type().to_owned());
            let body = compression.compress(&encoded.body)?;
            check(body.len(), " when compressed")?;
            body
        }
    };
    if !options.headers.is_empty() {
        headers = with_own(headers, options.headers)?;
    }
    let ignore_result = headers.ignore_result.unwrap_or(false);
    let properties = Properties {
        content_type: Some(format.content_type()),
        content_encoding: Some(format.content_encoding().as_str().into()),
        correlation_id: Some(CorrelationId::from(&id)),
        reply_to: Some(sender.reply_to.clone()),
        delivery_mode: Some(celeriac_core::DeliveryMode::Persistent),
        priority: Some(priority.unwrap_or(Priority(0))),
        ..Properties::default()
    };
    let message = Message { headers: Headers::from(headers), properties, body: Bytes::from(body) };
    let mut outgoing = Outgoing::new(message, Destination::queue(&queue));
    if let Some(eta) = eta.filter(|eta| sender.delay && *eta > sender.now) {
        outgoing = outgoing.deliver_at(eta);
    }
    Ok(Prepared { id, ignore_result, outgoing })
}

/// Adds the caller's own headers. As in Celery one may stand for a header of the protocol's, save those that say which task it is.
fn with_own(headers: TaskHeaders, own: Map) -> Result<TaskHeaders> {
    let refused = |what: &str| Error::config("send", format!("the call's own headers cannot be sent: {what}"));
    for (name, instead) in [("id", "set the call's task id"), ("task", "name the task itself")] {
        if own.contains_key(name) {
            return Err(refused(&format!("header `{name}` says which task it is; {instead} instead")));
        }
    }
    let mut table = Headers::from(headers).to_map();
    table.extend(own);
    let headers = Headers::from_map(table);
    if let Some(reason) = headers.malformed() {
        return Err(refused(reason));
    }
    headers.into_task().map(std::sync::Arc::unwrap_or_clone).map_err(|_| refused("they are no task's"))
}

struct Encoded {
    body: Vec<u8>,
    argsrepr: String,
    kwargsrepr: String,
}

/// Writes `[args, kwargs, embed]`: each argument by itself, so that formats which do not describe themselves can be joined too.
fn encode(args: &dyn CallArgs, format: &dyn Serializer) -> Result<Encoded> {
    let mut buffer = Vec::with_capacity(128);
    let mut positional = Vec::new();
    let mut keyword: Vec<(String, std::ops::Range<usize>)> = Vec::new();
    let (mut args_repr, mut kwargs_repr) = (ReprWriter::positional(), ReprWriter::keyword());
    args.visit(&mut |name, value| {
        let start = buffer.len();
        let encoded = match value {
            Argument::Typed(value) => format.encode(value, &mut buffer),
            Argument::Value(value) => format.encode_value(value, &mut buffer),
        };
        encoded.map_err(|error| {
            let which =
                name.map_or_else(|| format!("argument {}", positional.len()), |name| format!("argument `{name}`"));
            Error::new(error.kind(), "encode argument", format!("{which}: {}", error.message())).with_source(error)
        })?;
        match name {
            None => {
                positional.push(start..buffer.len());
                match value {
                    Argument::Typed(value) => args_repr.push(value),
                    Argument::Value(value) => args_repr.push(value),
                };
            }
            Some(name) => {
                keyword.push((name.to_owned(), start..buffer.len()));
                match value {
                    Argument::Typed(value) => kwargs_repr.push_named(name, value),
                    Argument::Value(value) => kwargs_repr.push_named(name, value),
                };
            }
        }
        Ok(())
    })?;
    let slice = |range: &std::ops::Range<usize>| buffer.get(range.clone()).unwrap_or_default();
    let positional: Vec<&[u8]> = positional.iter().map(slice).collect();
    let keyword: Vec<(&str, &[u8])> = keyword.iter().map(|(name, range)| (name.as_str(), slice(range))).collect();
    let (mut list, mut map) = (Vec::with_capacity(buffer.len() + 16), Vec::with_capacity(16));
    format.join_list(&positional, &mut list)?;
    format.join_map(&keyword, &mut map)?;
    let embed = embed(format, &Embed::default())?;
    let mut body = Vec::with_capacity(list.len() + map.len() + embed.len() + 16);
    format.join_list(&[&list, &map, &embed], &mut body)?;
    Ok(Encoded { body, argsrepr: args_repr.finish(), kwargsrepr: kwargs_repr.finish() })
}

/// A plain embed is written by its type, which costs no tree; one with signatures as a value, which every format can read back.
fn embed(format: &dyn Serializer, embed: &Embed) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(64);
    if embed.is_empty() {
        format.encode(&Some(embed), &mut out)?;
    } else {
        format.encode_value(&celeriac_core::value::to_value(embed)?, &mut out)?;
    }
    Ok(out)
}
