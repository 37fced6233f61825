//! What was captured from Celery 5.7: `tests/vectors/` of the workspace.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use celeriac_core::{Map, Value};
use lapin::BasicProperties;
use lapin::protocol::basic::parse_properties;
use serde_json::Value as Case;

const FILES: [&str; 6] = [
    include_str!("../../../../../tests/vectors/amqp_task_messages.json"),
    include_str!("../../../../../tests/vectors/canvas_amqp.json"),
    include_str!("../../../../../tests/vectors/consumer_mechanics_amqp.json"),
    include_str!("../../../../../tests/vectors/native_delayed_delivery.json"),
    include_str!("../../../../../tests/vectors/results_rpc.json"),
    include_str!("../../../../../tests/vectors/serializers_compression.json"),
];

/// A message as it went over the wire between Python and RabbitMQ.
pub(crate) struct Captured {
    pub(super) name: String,
    /// The frame's payload: class, weight, size of the body, properties.
    pub(crate) raw: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// As Python saw it, with the types of the fields.
    pub(super) headers: Map,
    pub(super) properties: Map,
}

impl Captured {
    fn of(case: &Case) -> Option<Self> {
        let bytes = |field: &str| STANDARD.decode(case[field].as_str()?).ok();
        Some(Self {
            name: case["name"].as_str()?.to_owned(),
            raw: bytes("content_header_b64")?,
            body: bytes("body_b64")?,
            headers: typed_map(&case["headers"], &case["header_types"]),
            properties: serde_json::from_value(case["properties"].clone()).ok()?,
        })
    }

    /// As the driver hands it over.
    pub(super) fn came(&self) -> BasicProperties {
        parsed(&self.raw[12..])
    }
}

/// Properties as the driver reads them.
pub(super) fn parsed(raw: &[u8]) -> BasicProperties {
    let (rest, properties) = parse_properties(raw).unwrap();
    assert!(rest.is_empty());
    properties
}

/// Every message that was captured over AMQP.
pub(crate) fn captured() -> Vec<Captured> {
    let cases = FILES.iter().flat_map(|file| serde_json::from_str::<Vec<Case>>(file).unwrap());
    cases.filter_map(|case| Captured::of(&case)).collect()
}

/// The message `name`.
pub(super) fn one(name: &str) -> Captured {
    captured().into_iter().find(|captured| captured.name == name).unwrap_or_else(|| panic!("no case `{name}`"))
}

fn typed_map(table: &Case, types: &Case) -> Map {
    let entries = table.as_object().into_iter().flatten();
    entries.map(|(name, value)| (name.as_str(), typed(value, &types[name]))).collect()
}

/// A value of a table; times and decimals stand there as numbers.
fn typed(value: &Case, kind: &Case) -> Value {
    match (value, kind) {
        (Case::Number(seconds), Case::String(kind)) if kind == "T" => {
            let time = celeriac_core::Timestamp::from_micros(seconds.as_i64().unwrap() * 1_000_000);
            Value::DateTime(time.to_string().parse().unwrap())
        }
        (Case::Object(decimal), Case::String(kind)) if kind == "D" => {
            assert_eq!(decimal["__decimal__"], serde_json::json!([2, 125]));
            Value::Decimal("1.25".parse().unwrap())
        }
        (Case::Array(items), Case::Array(kind)) => {
            items.iter().zip(kind[1].as_array().unwrap()).map(|(item, kind)| typed(item, kind)).collect()
        }
        (Case::Object(_), Case::Array(kind)) => Value::Map(typed_map(value, &kind[1])),
        (value, _) => serde_json::from_value(value.clone()).unwrap(),
    }
}
