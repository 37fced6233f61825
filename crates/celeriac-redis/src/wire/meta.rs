//! The record of a task: the value of `celery-task-meta-<id>`, and what is published under that name.

mod decode;
mod enclosed;
mod encode;

pub(crate) use decode::{decode, decompressed, payload};
pub(crate) use encode::encode;

/// The fields of a record that are not [`TaskMeta::extended`](celeriac_core::TaskMeta::extended), in Celery's order.
const FIELDS: [&str; 8] =
    ["status", "result", "traceback", "children", "date_done", "group_id", "parent_id", "task_id"];

/// What Celery puts before a record that it compresses; the MIME type and another NUL follow.
const COMPRESSED: &[u8] = b"\0celery-compressed\0";

/// How our records in YAML begin, which would else begin as JSON does.
const YAML_START: &[u8] = b"--- ";
