//! The trait every format implements, and its generic convenience.

use std::borrow::Cow;
use std::fmt;

use celeriac_core::{ContentType, Error, Map, Result, Value};
use serde::de::DeserializeOwned;

use crate::body::{Body, split_parts};
use crate::error::DECODE;

/// Whether a format's bytes are text, as the message property `content_encoding` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentEncoding {
    /// `utf-8`.
    Utf8,
    /// `binary`.
    Binary,
}

impl ContentEncoding {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Binary => "binary",
        }
    }
}

impl fmt::Display for ContentEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Receives what [`Serializer::decode`] reads. May be called twice, the second time if the first failed.
pub type Visit<'v> =
    &'v mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> std::result::Result<(), erased_serde::Error>;

/// An entry of a split map: its key and its value's bytes.
pub type Entry<'a> = (Cow<'a, str>, Cow<'a, [u8]>);

/// A format of message bodies and results.
///
/// The bytes of one value stand for themselves: [`join_list`](Self::join_list) and the like put values together and take
/// them apart without knowing their types. The provided methods do so by way of [`Value`], which suits any self-describing
/// format; override them where the format allows it cheaper, or is not self-describing.
///
/// Bytes come from strangers: no method may panic, overflow the stack or allocate without bound, whatever they hold.
///
/// # Examples
/// A format of the user's own, here JSON under another name:
/// ```
/// use celeriac_core::{ContentType, Result};
/// use celeriac_serializer::{ContentEncoding, Json, Serializer, SerializerExt as _, Visit};
///
/// #[derive(Debug)]
/// struct Mine;
///
/// impl Serializer for Mine {
///     fn name(&self) -> &str {
///         "mine"
///     }
///     fn content_type(&self) -> ContentType {
///         ContentType::from_static("application/x-mine")
///     }
///     fn content_encoding(&self) -> ContentEncoding {
///         ContentEncoding::Utf8
///     }
///     fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut Vec<u8>) -> Result<()> {
///         Json.encode(value, out)
///     }
///     fn decode(&self, data: &[u8], visit: Visit<'_>) -> Result<()> {
///         Json.decode(data, visit)
///     }
/// }
///
/// let mut out = Vec::new();
/// Mine.join_list(&[b"1", b"2"], &mut out)?;
/// assert_eq!(Mine.from_bytes::<(u8, u8)>(&out)?, (1, 2));
/// # Ok::<(), celeriac_core::Error>(())
/// ```
pub trait Serializer: fmt::Debug + Send + Sync + 'static {
    /// The name used in configuration: `json`.
    fn name(&self) -> &str;

    /// The MIME type messages carry.
    fn content_type(&self) -> ContentType;

    /// Whether the bytes are text.
    fn content_encoding(&self) -> ContentEncoding;

    /// Appends the bytes of one value. On an error `out` may hold part of them.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](celeriac_core::ErrorKind::Unsupported) if the format cannot hold the value.
    fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut Vec<u8>) -> Result<()>;

    /// Appends the bytes of one value in a form that [`decode_value`](Self::decode_value) can read back.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn encode_value(&self, value: &Value, out: &mut Vec<u8>) -> Result<()> {
        self.encode(value, out)
    }

    /// Reads one value; bytes after it are refused.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](celeriac_core::ErrorKind::Malformed) if the bytes cannot be read or `visit` fails.
    fn decode(&self, data: &[u8], visit: Visit<'_>) -> Result<()>;

    /// Whether `data` is JSON that every reader of JSON reads as this format does: then values are read from it without a detour by
    /// [`decode`](Self::decode), which is asked only if that fails.
    fn is_plain_json(&self, data: &[u8]) -> bool {
        let _ = data;
        false
    }

    /// Reads one value of any type.
    ///
    /// # Errors
    /// As [`decode`](Self::decode); [`ErrorKind::Unsupported`](celeriac_core::ErrorKind::Unsupported) if the bytes do not
    /// say what they are.
    fn decode_value(&self, data: &[u8]) -> Result<Value> {
        self.from_bytes(data)
    }

    /// Appends a list of values already encoded.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](celeriac_core::ErrorKind::Malformed) if an item cannot be read, for formats that must.
    fn join_list(&self, items: &[&[u8]], out: &mut Vec<u8>) -> Result<()> {
        let items = items.iter().map(|item| self.decode_value(item)).collect::<Result<Vec<_>>>()?;
        self.encode_value(&Value::List(items), out)
    }

    /// Appends a map of values already encoded.
    ///
    /// # Errors
    /// As [`join_list`](Self::join_list).
    fn join_map(&self, entries: &[(&str, &[u8])], out: &mut Vec<u8>) -> Result<()> {
        let mut map = Map::with_capacity(entries.len());
        for (key, value) in entries {
            map.insert(*key, self.decode_value(value)?);
        }
        self.encode_value(&Value::Map(map), out)
    }

    /// Takes a list apart into its values' bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](celeriac_core::ErrorKind::Malformed) if it is no list or cannot be read.
    fn split_list<'a>(&self, data: &'a [u8]) -> Result<Vec<Cow<'a, [u8]>>> {
        match self.decode_value(data)? {
            Value::List(items) => items
                .iter()
                .map(|item| {
                    let mut out = Vec::new();
                    self.encode_value(item, &mut out)?;
                    Ok(Cow::Owned(out))
                })
                .collect(),
            other => Err(not_a("list", other.kind())),
        }
    }

    /// Takes a map apart into its keys and its values' bytes, in order.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](celeriac_core::ErrorKind::Malformed) if it is no map or cannot be read.
    fn split_map<'a>(&self, data: &'a [u8]) -> Result<Vec<Entry<'a>>> {
        match self.decode_value(data)? {
            Value::Map(map) => map
                .into_iter()
                .map(|(key, value)| {
                    let mut out = Vec::new();
                    self.encode_value(&value, &mut out)?;
                    Ok((Cow::Owned(key), Cow::Owned(out)))
                })
                .collect(),
            other => Err(not_a("map", other.kind())),
        }
    }

    /// Takes a task's body apart: [`Body::split`]. To be overridden only by a format that can do so faster than part by part.
    ///
    /// # Errors
    /// As [`Body::split`].
    fn split_body<'a>(&self, data: &'a [u8]) -> Result<Body<'a>> {
        split_parts(self, data)
    }
}

pub(crate) fn not_a(wanted: &str, found: &str) -> Error {
    Error::malformed(DECODE, format!("expected a {wanted}, found {found}"))
}

/// Typed encoding and decoding with any [`Serializer`].
pub trait SerializerExt: Serializer {
    /// The bytes of `value`.
    ///
    /// # Errors
    /// As [`Serializer::encode`].
    fn to_bytes<T: serde::Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.encode(&value, &mut out)?;
        Ok(out)
    }

    /// The value that `data` holds.
    ///
    /// # Errors
    /// As [`Serializer::decode`].
    #[expect(clippy::wrong_self_convention, reason = "the other half of `to_bytes`")]
    fn from_bytes<T: DeserializeOwned>(&self, data: &[u8]) -> Result<T> {
        #[cfg(feature = "json")]
        if self.is_plain_json(data)
            && let Ok(value) = serde_json::from_slice(data)
        {
            return Ok(value);
        }
        let mut value = None;
        self.decode(data, &mut |source| {
            value = Some(erased_serde::deserialize(source)?);
            Ok(())
        })?;
        value.ok_or_else(|| Error::unexpected(DECODE, format!("serializer `{}` decoded no value", self.name())))
    }
}

impl<S: Serializer + ?Sized> SerializerExt for S {}
