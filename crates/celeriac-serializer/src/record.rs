//! The record of a task, as Celery's result backends keep it and its `rpc://` sends it.
//!
//! A record is a map of the fields of a [`TaskMeta`](celeriac_core::TaskMeta), in JSON, msgpack or YAML, perhaps compressed. [`encode`] writes
//! one in the format of its result, [`decode`] reads one in any of the formats compiled in. Whatever keeps records of Celery's by itself, on
//! any system, uses these two; what else is here serves what is kept beside records in the same form.
//!
//! ```
//! use celeriac_core::{ContentType, Payload, TaskId, TaskMeta, TaskState};
//! use celeriac_serializer::record;
//!
//! let result = Payload { content_type: ContentType::JSON, data: "5".into() };
//! let meta = TaskMeta::new(TaskId::from_static("an-id"), TaskState::Success).with_result(result);
//! let mut data = Vec::new();
//! assert_eq!(record::encode(&meta, &mut data)?, ContentType::JSON);
//! assert!(data.starts_with(br#"{"status": "SUCCESS", "result": 5, "#));
//! assert_eq!(record::decode(None, &data, 1024)?, meta);
//! # Ok::<(), celeriac_core::Error>(())
//! ```

mod decode;
mod enclosed;
mod encode;

use celeriac_core::ContentType;

use crate::serializer::Serializer;

pub use decode::{decode, decompressed, payload};
pub use encode::encode;

/// The fields of a record that are not [`TaskMeta::extended`](celeriac_core::TaskMeta::extended), in Celery's order.
const FIELDS: [&str; 8] =
    ["status", "result", "traceback", "children", "date_done", "group_id", "parent_id", "task_id"];

/// What Celery puts before a record that it compresses; the MIME type and another NUL follow.
const COMPRESSED: &[u8] = b"\0celery-compressed\0";

/// How our records in YAML begin, which would else begin as JSON does.
const YAML_START: &[u8] = b"--- ";

/// The format that a record may be in besides JSON, if it is one, and compiled in.
fn other_format(content_type: &ContentType) -> Option<&'static dyn Serializer> {
    #[cfg(feature = "msgpack")]
    if *content_type == ContentType::MSGPACK {
        return Some(&crate::Msgpack);
    }
    #[cfg(feature = "yaml")]
    if *content_type == ContentType::YAML {
        return Some(&crate::Yaml);
    }
    let _ = content_type;
    None
}
