//! Validated names: task, entry of a schedule, queue, exchange, routing key, content type; and the shared string they stand on.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// An immutable string that is cheap to clone: a literal, or shared.
#[derive(Clone)]
pub(crate) enum SharedStr {
    Static(&'static str),
    Shared(Arc<str>),
}

impl SharedStr {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Static(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl From<Cow<'static, str>> for SharedStr {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Self::Static(text),
            Cow::Owned(text) => Self::Shared(text.into()),
        }
    }
}

/// Why a name was refused; `None` when it is fine.
type Check = fn(&str) -> Option<&'static str>;

fn validated(what: &'static str, text: &str, check: Check) -> Result<()> {
    match check(text) {
        None => Ok(()),
        Some(why) => {
            let shown: String = text.chars().take(64).collect();
            Err(Error::config("parse name", format!("{what} `{shown}` {why}")))
        }
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $check:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(SharedStr);

        impl $name {
            /// Checks and takes `text`.
            ///
            /// # Errors
            #[doc = concat!("[`ErrorKind::Config`](crate::ErrorKind::Config) naming the ", $what, " and what is wrong with it.")]
            pub fn new(text: impl Into<Cow<'static, str>>) -> Result<Self> {
                let text = text.into();
                validated($what, &text, $check)?;
                Ok(Self(text.into()))
            }

            /// Takes a literal without allocating.
            ///
            /// # Panics
            /// If the literal is not valid: a programmer's error.
            #[must_use]
            #[track_caller]
            pub fn from_static(text: &'static str) -> Self {
                if let Some(why) = $check(text) {
                    panic!("{} `{text}` {why}", $what);
                }
                Self(SharedStr::Static(text))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.as_str(), f)
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                self.as_str()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.as_str() == other.as_str()
            }
        }

        impl Eq for $name {}

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.as_str().cmp(other.as_str())
            }
        }

        impl std::hash::Hash for $name {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.as_str().hash(state);
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                validated($what, text, $check)?;
                Ok(Self(SharedStr::Shared(text.into())))
            }
        }

        impl TryFrom<&'static str> for $name {
            type Error = Error;
            fn try_from(text: &'static str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                Self::new(text)
            }
        }

        impl From<&$name> for $name {
            fn from(name: &$name) -> Self {
                name.clone()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

fn short(text: &str) -> Option<&'static str> {
    // AMQP carries names as short strings of at most 255 bytes.
    if text.is_empty() {
        Some("is empty")
    } else if text.len() > 255 {
        Some("is longer than 255 bytes")
    } else {
        None
    }
}

fn short_or_empty(text: &str) -> Option<&'static str> {
    (text.len() > 255).then_some("is longer than 255 bytes")
}

fn identifier(text: &str) -> Option<&'static str> {
    // Celery's database backend stores ids in 155 characters.
    if text.is_empty() {
        Some("is empty")
    } else if text.len() > 155 {
        Some("is longer than 155 bytes")
    } else {
        None
    }
}

fn mime(text: &str) -> Option<&'static str> {
    let mut parts = text.splitn(2, '/');
    match (parts.next(), parts.next()) {
        (Some(kind), Some(format)) if !kind.is_empty() && !format.is_empty() && text.len() <= 255 => None,
        _ => Some("is not of the form `type/subtype`"),
    }
}

names! {
    /// The id of a task: any text of 1 to 155 bytes, a version 7 UUID unless the caller names one.
    TaskId, "task id", identifier;
    /// The id of a group or of a chord's header: any text of 1 to 155 bytes.
    GroupId, "group id", identifier;
    /// The name a task is registered and sent under, such as `mail.send`: 1 to 255 bytes.
    TaskName, "task name", short;
    /// The name of an entry of a schedule, such as `nightly-cleanup`: 1 to 255 bytes.
    EntryName, "entry name", short;
    /// The name of a queue: 1 to 255 bytes.
    QueueName, "queue name", short;
    /// The name of an exchange: 0 to 255 bytes; the empty name is the default exchange, which routes by queue name.
    ExchangeName, "exchange name", short_or_empty;
    /// The routing key of a message or the key of a binding: 0 to 255 bytes.
    RoutingKey, "routing key", short_or_empty;
    /// The id that a reply repeats: 0 to 255 bytes.
    CorrelationId, "correlation id", short_or_empty;
    /// The MIME type of a body or of a stored result, such as `application/json`.
    ContentType, "content type", mime;
}

impl TaskId {
    /// A fresh id: a version 7 UUID in its 36-character form. Ids made later in one process sort behind those made before. An id
    /// tells when it was made, and is no secret: less of it is random than of version 4.
    ///
    /// COMPAT: Celery makes version 4 UUIDs, and takes any text.
    #[must_use]
    pub fn random() -> Self {
        Self(fresh_uuid())
    }
}

impl GroupId {
    /// A fresh id: a version 7 UUID in its 36-character form, as [`TaskId::random`] makes them.
    #[must_use]
    pub fn random() -> Self {
        Self(fresh_uuid())
    }
}

fn fresh_uuid() -> SharedStr {
    let mut buffer = [0_u8; uuid::fmt::Hyphenated::LENGTH];
    let text: &str = uuid::Uuid::now_v7().hyphenated().encode_lower(&mut buffer);
    SharedStr::Shared(text.into())
}

impl ExchangeName {
    /// The default exchange, named by the empty string.
    pub const DEFAULT: Self = Self(SharedStr::Static(""));
}

impl ContentType {
    /// `application/json`.
    pub const JSON: Self = Self(SharedStr::Static("application/json"));
    /// `application/x-msgpack`.
    pub const MSGPACK: Self = Self(SharedStr::Static("application/x-msgpack"));
    /// `application/x-bincode`, Celeriac's own.
    pub const BINCODE: Self = Self(SharedStr::Static("application/x-bincode"));
    /// `application/x-yaml`.
    pub const YAML: Self = Self(SharedStr::Static("application/x-yaml"));
}

impl QueueName {
    /// The queue Celery sends to when nothing else is said: `celery`.
    pub const DEFAULT: Self = Self(SharedStr::Static("celery"));
}

impl From<&QueueName> for RoutingKey {
    fn from(queue: &QueueName) -> Self {
        // Both hold at most 255 bytes, so no check is needed.
        Self(queue.0.clone())
    }
}

impl From<&TaskId> for CorrelationId {
    fn from(id: &TaskId) -> Self {
        Self(id.0.clone())
    }
}

impl From<&QueueName> for ExchangeName {
    fn from(queue: &QueueName) -> Self {
        Self(queue.0.clone())
    }
}

/// The priority of a message: 0 to 255, of which Celery uses 0 to 9; 0 when nothing is said.
///
/// Higher is more urgent, save on Redis, where Celery has it the other way round and 0 comes first: a broker's capabilities tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Priority(pub u8);

impl From<u8> for Priority {
    fn from(level: u8) -> Self {
        Self(level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn an_empty_queue_name_is_refused_by_name() {
        let error = QueueName::new("").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("queue name `` is empty"), "{error}");
    }

    #[test]
    fn a_long_task_id_is_refused() {
        assert!(TaskId::new("x".repeat(155)).is_ok());
        assert!(TaskId::new("x".repeat(156)).is_err());
    }

    #[test]
    fn fresh_ids_are_uuids_that_sort_by_time() {
        let ids: Vec<TaskId> = (0..1_000).map(|_| TaskId::random()).collect();
        assert!(ids.is_sorted_by(|before, after| before < after));
        assert!(ids.iter().all(|id| uuid::Uuid::parse_str(id).unwrap().get_version_num() == 7));
    }

    #[test]
    fn a_name_is_checked_when_deserialised() {
        assert!(serde_json::from_str::<ContentType>("\"json\"").is_err());
        assert_eq!(serde_json::from_str::<ContentType>("\"a/b\"").unwrap(), "a/b");
    }
}
