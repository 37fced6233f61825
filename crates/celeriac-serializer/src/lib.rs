//! Serializers and compression of celeriac, by content type.
//!
//! A [`Serializer`] turns values into bytes and back, and joins and splits bytes it has made without knowing what is in
//! them, so that a task's [`Body`] can be routed and a chain can put a result in front of the arguments. [`Serializers`]
//! finds one by name or content type and refuses what is not accepted. [`Compression`] is what may come on top. [`record`](mod@record) is the form that
//! Celery's result backends keep results in.
//!
//! It is not a general serialization library: JSON here is kombu's JSON, bytes and dates included.
//!
//! ```
//! use celeriac_serializer::{Body, Serializers, SerializerExt as _};
//!
//! let formats = Serializers::new();
//! let json = formats.by_name("json")?;
//! let mut body = Body::split(json.as_ref(), br#"[[2], {"debug": true}, {"chain": null}]"#)?;
//! body.prepend(json.to_bytes("previous result")?);
//! let bytes = body.join(json.as_ref())?;
//! assert_eq!(bytes, br#"[["previous result",2],{"debug":true},{"chain": null}]"#);
//! let first: String = json.from_bytes(&body.args[0])?;
//! # Ok::<(), celeriac_core::Error>(())
//! ```
//!
//! Part of celeriac; most users want `celeriac`.

#[cfg(feature = "bincode")]
mod bincode;
mod body;
mod compression;
#[cfg_attr(
    not(any(feature = "json", feature = "msgpack", feature = "yaml")),
    expect(dead_code, reason = "no format is compiled in")
)]
mod error;
#[cfg(any(feature = "json", feature = "yaml"))]
mod json;
#[cfg(feature = "msgpack")]
mod msgpack;
#[cfg(feature = "json")]
pub mod record;
mod registry;
mod serializer;
#[cfg(feature = "yaml")]
mod yaml;

#[cfg(feature = "bincode")]
pub use bincode::Bincode;
pub use body::Body;
pub use compression::Compression;
#[cfg(feature = "json")]
pub use json::Json;
#[cfg(feature = "msgpack")]
pub use msgpack::Msgpack;
pub use registry::Serializers;
pub use serializer::{ContentEncoding, Entry, Serializer, SerializerExt, Visit};
#[cfg(feature = "yaml")]
pub use yaml::Yaml;
