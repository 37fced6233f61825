//! A message: headers, properties and a body that only a serializer looks into.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::headers::{Headers, TaskHeaders};
use crate::name::{ContentType, CorrelationId, Priority, RoutingKey};
use crate::value::{Map, Value};

/// A message as brokers carry it: headers, properties and the body's bytes.
///
/// Brokers keep all three as they are; the body may hold any bytes, and only the serializer that `content_type` names
/// reads it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Message {
    /// The table of headers; a task's are typed.
    pub headers: Headers,
    /// Content type, reply address, priority and the like.
    pub properties: Properties,
    /// The serialised, perhaps compressed, content.
    pub body: Bytes,
}

impl Message {
    /// The task's headers, if this is a task of protocol 2.
    #[must_use]
    pub fn task(&self) -> Option<&TaskHeaders> {
        self.headers.task()
    }

    /// The priority, 0 when nothing is said.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.properties.priority.unwrap_or_default()
    }
}

/// The basic properties of a message, by AMQP's names.
///
/// # Wire format
/// Serialises to the table of properties of kombu's envelope; `expiration` is a decimal string of milliseconds, as AMQP has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Properties {
    /// The MIME type of the body.
    pub content_type: Option<ContentType>,
    /// `utf-8` or `binary`.
    pub content_encoding: Option<Cow<'static, str>>,
    /// The id that a reply repeats: the task's.
    pub correlation_id: Option<CorrelationId>,
    /// The queue that replies go to.
    pub reply_to: Option<RoutingKey>,
    /// Whether the message is to survive the broker's restart; yes when nothing is said.
    pub delivery_mode: Option<DeliveryMode>,
    /// How urgent it is: see [`Priority`]; `None` means 0.
    pub priority: Option<Priority>,
    /// How long the broker may keep the message; for ever when absent.
    pub expiration: Option<Duration>,
    /// Whatever else came.
    pub extra: Map,
}

/// Whether the broker writes the message to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryMode {
    /// Kept in memory only: wire value 1.
    Transient,
    /// Survives a restart: wire value 2.
    Persistent,
}

impl Properties {
    /// Reads the properties from a table. Never fails: what is of the wrong type goes to `extra`.
    #[must_use]
    pub fn from_map(table: Map) -> Self {
        let mut properties = Self::default();
        for (name, value) in table {
            if let Some((name, value)) = properties.take(name, value) {
                properties.extra.insert(name, value);
            }
        }
        properties
    }

    /// Takes one property; gives back what it does not understand.
    fn take(&mut self, name: String, value: Value) -> Option<(String, Value)> {
        if value == Value::Null {
            return None;
        }
        let text = value.as_str();
        let taken = match name.as_str() {
            "content_type" => text.and_then(|text| text.parse().ok()).map(|t| self.content_type = Some(t)),
            "content_encoding" => text.map(|text| self.content_encoding = Some(encoding(text))),
            "correlation_id" => text.and_then(|text| text.parse().ok()).map(|id| self.correlation_id = Some(id)),
            "reply_to" => text.and_then(|text| text.parse().ok()).map(|key| self.reply_to = Some(key)),
            "delivery_mode" => match value.as_i64() {
                Some(1) => Some(DeliveryMode::Transient),
                Some(2) => Some(DeliveryMode::Persistent),
                _ => None,
            }
            .map(|mode| self.delivery_mode = Some(mode)),
            "priority" => value
                .as_i64()
                .and_then(|level| u8::try_from(level).ok())
                .map(|level| self.priority = Some(Priority(level))),
            "expiration" => text
                .and_then(|text| text.parse().ok())
                .map(|millis| self.expiration = Some(Duration::from_millis(millis))),
            _ => None,
        };
        if taken.is_some() { None } else { Some((name, value)) }
    }

    /// All properties as one table; absent ones are left out.
    #[must_use]
    pub fn to_map(&self) -> Map {
        let mut table = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                table.insert(name.to_owned(), value);
            }
        };
        let text = |text: &str| Value::Str(text.to_owned());
        put("content_type", self.content_type.as_deref().map(text));
        put("content_encoding", self.content_encoding.as_deref().map(text));
        put("delivery_mode", self.delivery_mode.map(|mode| Value::Int(mode.into())));
        put("priority", self.priority.map(|priority| Value::Int(priority.0.into())));
        put("correlation_id", self.correlation_id.as_deref().map(text));
        put("reply_to", self.reply_to.as_deref().map(text));
        put("expiration", self.expiration.map(|expiration| Value::Str(expiration.as_millis().to_string())));
        for (name, value) in &self.extra {
            table.insert(name, value.clone());
        }
        table
    }
}

/// The usual two need no memory of their own.
fn encoding(text: &str) -> Cow<'static, str> {
    match text {
        "utf-8" => Cow::Borrowed("utf-8"),
        "binary" => Cow::Borrowed("binary"),
        other => Cow::Owned(other.to_owned()),
    }
}

impl From<DeliveryMode> for i64 {
    fn from(mode: DeliveryMode) -> Self {
        match mode {
            DeliveryMode::Transient => 1,
            DeliveryMode::Persistent => 2,
        }
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_map().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(Self::from_map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_round_trip_as_kombu_writes_them() {
        let json = r#"{"content_type":"application/json","content_encoding":"utf-8","delivery_mode":2,"priority":3,"correlation_id":"a","reply_to":"b","expiration":"1500","app_id":"x"}"#;
        let properties: Properties = serde_json::from_str(json).unwrap();
        assert_eq!(properties.expiration, Some(Duration::from_millis(1500)));
        assert_eq!(serde_json::to_string(&properties).unwrap(), json);
    }

    #[test]
    fn a_property_of_the_wrong_type_is_kept_aside() {
        let properties: Properties = serde_json::from_str(r#"{"priority":"high","content_type":"json"}"#).unwrap();
        assert_eq!((properties.priority, properties.content_type.clone()), (None, None));
        assert_eq!(properties.extra.get("content_type"), Some(&Value::from("json")));
    }
}
