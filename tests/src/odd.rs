//! Messages of tasks that cannot be run, and what their failures say.

use serde_json::{Value as Json, json};

use crate::redis::{envelope, to_base64};

/// A message that is otherwise than it should be.
#[derive(Debug)]
pub struct Odd {
    /// What is odd; also the id of its task.
    pub what: &'static str,
    /// As it lies in a list on Redis: see [`envelope`].
    pub message: Json,
    /// The class of its failure.
    pub class: &'static str,
    /// What its failure says.
    pub says: &'static str,
}

/// The call of `twice` that `change` makes odd.
pub fn odd(what: &'static str, class: &'static str, says: &'static str, change: impl FnOnce(&mut Json)) -> Odd {
    let mut message = envelope("twice", what, 1);
    change(&mut message);
    Odd { what, message, class, says }
}

/// What is odd with any broker.
#[must_use]
pub fn messages() -> Vec<Odd> {
    vec![
        odd("pickle", "ContentDisallowed", "application/x-python-serialize", |message| {
            message["content-type"] = json!("application/x-python-serialize");
            message["content-encoding"] = json!("binary");
        }),
        odd("data", "ContentDisallowed", "application/data", |message| {
            message["content-type"] = json!("application/data");
            message["content-encoding"] = json!("binary");
        }),
        odd("no-mime-type", "ContentDisallowed", "no mime type", |message| {
            message["content-type"] = json!("no mime type");
        }),
        odd("unknown-compression", "ContentDisallowed", "application/x-zip9", |message| {
            message["headers"]["compression"] = json!("application/x-zip9");
        }),
        odd("not-compressed", "DecodeError", "zlib", |message| {
            message["headers"]["compression"] = json!("application/x-gzip");
        }),
        odd("other-encoding", "DecodeError", "the body is not a list", |message| {
            message["content-encoding"] = json!("utf-16");
            let body = "[[1], {}, {}]".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
            message["body"] = json!(to_base64(&body));
        }),
        odd("two-elements", "DecodeError", "2 elements, not 3", |message| {
            message["body"] = json!(to_base64(b"[[1], {}]"))
        }),
        odd("no-json", "DecodeError", "the body is not a list", |message| {
            message["body"] = json!(to_base64(b"[[1], {}, "))
        }),
        odd("arguments-are-no-list", "DecodeError", "positional arguments are not a list", |message| {
            message["body"] = json!(to_base64(br#"["x", {}, {}]"#));
        }),
        odd("keywords-are-no-map", "DecodeError", "keyword arguments are not a map", |message| {
            message["body"] = json!(to_base64(br#"[[1], [1], {}]"#));
        }),
        odd("unknown-task", "NotRegistered", "nobody.knows.it", |message| {
            message["headers"]["task"] = json!("nobody.knows.it");
        }),
        odd("task-is-a-number", "InvalidTaskError", "task", |message| message["headers"]["task"] = json!(5)),
        odd("eta-is-no-time", "InvalidTaskError", "eta", |message| message["headers"]["eta"] = json!("soon")),
        odd("retries-is-a-text", "InvalidTaskError", "retries", |message| {
            message["headers"]["retries"] = json!("many");
        }),
    ]
}
