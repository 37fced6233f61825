//! What a queue is declared with.

use std::time::Duration;

use celeriac_core::{Error, ExchangeName, Map, QueueName, Result, RoutingKey, Value};

/// A queue: its name, where its messages come from, and its options.
///
/// # Examples
/// ```
/// use celeriac_broker::QueueSpec;
/// use celeriac_core::QueueName;
///
/// let mail = QueueSpec::direct(QueueName::from_static("mail"));
/// assert_eq!(mail.bindings[0].exchange.name, "mail");
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueueSpec {
    /// The name.
    pub name: QueueName,
    /// The exchanges that feed it, and by which keys. The default exchange always does, by the queue's name.
    pub bindings: Vec<Binding>,
    /// Whether the queue survives the broker's restart, where anything does. Default yes.
    pub durable: bool,
    /// Whether the queue, with all that waits in it, goes when its last consumer goes. Default no.
    pub auto_delete: bool,
    /// The highest priority that the queue keeps apart: more urgent messages count as that. `None` leaves it to the broker.
    pub max_priority: Option<u8>,
    /// How long a message may wait, from its publishing, or from when it was due if it was delayed; for ever when `None`.
    pub message_ttl: Option<Duration>,
    /// How long the queue may stay without consumers, at least; for ever when `None`.
    pub expires: Option<Duration>,
    /// Arguments for one broker alone, such as RabbitMQ's `x-queue-type`. A broker refuses those it does not know.
    pub arguments: Map,
}

/// A queue's tie to an exchange.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Binding {
    /// The exchange.
    pub exchange: ExchangeSpec,
    /// The key; on a topic exchange a pattern.
    pub key: RoutingKey,
    /// The headers that a headers exchange looks for: see [`headers_match`](crate::headers_match). Other kinds do not look at them. Default
    /// none.
    pub arguments: Map,
}

impl Binding {
    /// A binding without arguments.
    #[must_use]
    pub fn new(exchange: ExchangeSpec, key: RoutingKey) -> Self {
        Self { exchange, key, arguments: Map::new() }
    }

    /// Sets the headers that a headers exchange looks for.
    #[must_use]
    pub fn arguments(mut self, arguments: Map) -> Self {
        self.arguments = arguments;
        self
    }
}

/// An exchange: a name and a manner of routing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExchangeSpec {
    /// The name.
    pub name: ExchangeName,
    /// How it routes.
    pub kind: ExchangeKind,
}

/// How an exchange routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExchangeKind {
    /// To the queues bound by exactly the routing key.
    Direct,
    /// To every bound queue.
    Fanout,
    /// To the queues whose binding's arguments match the message's headers: see [`headers_match`](crate::headers_match).
    Headers,
    /// To the queues whose pattern matches the routing key: see [`topic_matches`](crate::topic_matches).
    Topic,
}

impl ExchangeKind {
    /// AMQP's name of the kind.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Headers => "headers",
            Self::Topic => "topic",
        }
    }
}

impl QueueSpec {
    /// A durable queue fed by the default exchange and, as Celery has it, by a direct exchange of its own name.
    #[must_use]
    pub fn direct(name: QueueName) -> Self {
        let exchange = ExchangeSpec { name: ExchangeName::from(&name), kind: ExchangeKind::Direct };
        let binding = Binding::new(exchange, RoutingKey::from(&name));
        Self { bindings: vec![binding], ..Self::unbound(name) }
    }

    /// A durable queue fed by the default exchange alone.
    #[must_use]
    pub fn unbound(name: QueueName) -> Self {
        Self {
            name,
            bindings: Vec::new(),
            durable: true,
            auto_delete: false,
            max_priority: None,
            message_ttl: None,
            expires: None,
            arguments: Map::new(),
        }
    }

    /// Binds the queue to one more exchange.
    #[must_use]
    pub fn bound_to(mut self, exchange: ExchangeName, kind: ExchangeKind, key: RoutingKey) -> Self {
        self.bindings.push(Binding::new(ExchangeSpec { name: exchange, kind }, key));
        self
    }

    /// Binds the queue to a headers exchange: for the messages whose headers `arguments` match.
    #[must_use]
    pub fn bound_by_headers(mut self, exchange: ExchangeName, arguments: Map) -> Self {
        let exchange = ExchangeSpec { name: exchange, kind: ExchangeKind::Headers };
        self.bindings.push(Binding::new(exchange, RoutingKey::from_static("")).arguments(arguments));
        self
    }

    /// Reads options by name, as a configuration file or an environment gives them, on top of [`QueueSpec::direct`].
    ///
    /// Known: `durable`, `auto_delete` (booleans), `max_priority` (0 to 255), `message_ttl`, `expires` (seconds), and every name that
    /// begins with `x-`, which goes to `arguments`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the option that is not known or has a value of the wrong type.
    pub fn with_options(mut self, options: Map) -> Result<Self> {
        let seconds = |value: &Value| value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        for (name, value) in options {
            let read = match name.as_str() {
                "durable" => value.as_bool().map(|durable| self.durable = durable),
                "auto_delete" => value.as_bool().map(|auto_delete| self.auto_delete = auto_delete),
                "max_priority" => value
                    .as_i64()
                    .and_then(|level| u8::try_from(level).ok())
                    .map(|level| self.max_priority = Some(level)),
                "message_ttl" => seconds(&value).map(|ttl| self.message_ttl = Some(ttl)),
                "expires" => seconds(&value).map(|expires| self.expires = Some(expires)),
                argument if argument.starts_with("x-") => {
                    self.arguments.insert(argument.to_owned(), value.clone());
                    Some(())
                }
                _ => {
                    return Err(Error::config(
                        "declare queue",
                        format!(
                            "unknown option `{name}` of queue `{}`; known are durable, auto_delete, max_priority, message_ttl, expires and x-...",
                            self.name
                        ),
                    ));
                }
            };
            if read.is_none() {
                return Err(Error::config(
                    "declare queue",
                    format!("option `{name}` of queue `{}` cannot be {value:?}", self.name),
                ));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str, value: impl Into<Value>) -> Result<QueueSpec> {
        let options = [(name.to_owned(), value.into())].into_iter().collect();
        QueueSpec::direct(QueueName::DEFAULT).with_options(options)
    }

    #[test]
    fn an_unknown_option_is_named() {
        let error = queue("prioritise", true).unwrap_err();
        assert!(error.to_string().contains("unknown option `prioritise` of queue `celery`"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named() {
        assert!(queue("max_priority", 300).unwrap_err().to_string().contains("`max_priority`"));
        assert!(queue("durable", "yes").is_err());
        assert_eq!(queue("message_ttl", 2.5).unwrap().message_ttl, Some(Duration::from_millis(2500)));
    }
}
