//! The captured cases, and the messages in them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use celeriac_core::{Headers, Map, Message, Properties, Value};
use celeriac_serializer::{Compression, Json, SerializerExt as _};
use serde_json::Value as Case;

/// The files that hold task messages.
pub(crate) const MESSAGES: [&str; 6] =
    ["amqp_task_messages", "canvas_amqp", "canvas_redis", "redis_envelopes", "retry_republish", "beat"];

/// The cases of one file, in order.
pub(crate) fn cases(file: &str) -> Vec<Case> {
    let path = format!("{}/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The case `name` of a file.
pub(crate) fn case(file: &str, name: &str) -> Case {
    cases(file).into_iter().find(|case| case["name"] == name).unwrap_or_else(|| panic!("{file} has no `{name}`"))
}

/// The bytes of a base64 field.
pub(crate) fn bytes(field: &Case) -> Vec<u8> {
    STANDARD.decode(field.as_str().expect("a base64 field is text")).expect("the field is base64")
}

/// One captured message: as raw tables, and as we read it.
#[derive(Debug)]
pub(crate) struct Captured {
    /// File and name, for messages.
    pub(crate) name: String,
    pub(crate) headers: Case,
    pub(crate) properties: Case,
    pub(crate) message: Message,
    /// The decoded body.
    pub(crate) body: Case,
}

impl Captured {
    /// The message in a case; `None` if there is none in it.
    pub(crate) fn of(file: &str, case: &Case) -> Option<Self> {
        let (headers, properties, body) = if case["transport"] == "redis" {
            case.get("value_b64")?;
            let envelope: Case = serde_json::from_slice(&bytes(&case["value_b64"])).ok()?;
            let mut properties = envelope.get("properties")?.clone();
            // kombu's envelope has these two beside the properties.
            for (outer, inner) in [("content-type", "content_type"), ("content-encoding", "content_encoding")] {
                if let Some(value) = envelope.get(outer) {
                    properties[inner] = value.clone();
                }
            }
            let body = envelope.get("body")?;
            let body = if properties["body_encoding"] == "base64" {
                bytes(body)
            } else {
                body.as_str().unwrap_or_default().as_bytes().to_vec()
            };
            (envelope.get("headers").cloned().unwrap_or_else(|| serde_json::json!({})), properties, body)
        } else {
            case.get("body_b64")?;
            (case["headers"].clone(), case["properties"].clone(), bytes(&case["body_b64"]))
        };
        let read = |table: &Case| Json.from_bytes(&serde_json::to_vec(table).unwrap()).unwrap();
        let message = Message {
            headers: Headers::from_map(read(&headers)),
            properties: Properties::from_map(read(&properties)),
            body: body.into(),
        };
        let name = format!("{file}#{}", case["name"].as_str().unwrap_or_default());
        Some(Self { name, headers, properties, message, body: case["body"].clone() })
    }

    pub(crate) fn named(file: &str, name: &str) -> Self {
        Self::of(file, &case(file, name)).unwrap_or_else(|| panic!("{file}#{name} has no message"))
    }

    /// The body, decompressed.
    pub(crate) fn plain_body(&self) -> Vec<u8> {
        match self.headers["compression"].as_str() {
            None => self.message.body.to_vec(),
            Some(name) => Compression::from_name(name).unwrap().decompress(&self.message.body, 1 << 20).unwrap(),
        }
    }
}

/// Every message of the task files.
pub(crate) fn messages() -> Vec<Captured> {
    let of = |file: &&'static str| {
        let file = *file;
        cases(file).into_iter().filter_map(move |case| Captured::of(file, &case))
    };
    MESSAGES.iter().flat_map(of).collect()
}

/// Every message of protocol 2.
pub(crate) fn tasks() -> Vec<Captured> {
    messages().into_iter().filter(|captured| captured.headers.get("task").is_some()).collect()
}

/// A value as plain JSON, as the JSON serializer writes it.
pub(crate) fn json(value: &Value) -> Case {
    serde_json::from_slice(&Json.to_bytes(value).unwrap()).unwrap()
}

/// A map as plain JSON.
pub(crate) fn json_map(map: &Map) -> Case {
    json(&Value::Map(map.clone()))
}

/// Compares two values, numbers by value and objects in any order.
#[track_caller]
pub(crate) fn assert_same(ours: &Case, captured: &Case, context: &str) {
    assert!(same(ours, captured), "{context}:\n  ours     {ours}\n  captured {captured}");
}

fn same(one: &Case, other: &Case) -> bool {
    match (one, other) {
        (Case::Number(one), Case::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Case::Array(one), Case::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Case::Object(one), Case::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}
