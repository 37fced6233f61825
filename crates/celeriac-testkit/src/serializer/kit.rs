//! What the behaviours are written with.

use std::sync::Arc;

use celeriac_core::{ErrorKind, Map, Value};
use celeriac_serializer::{Serializer, SerializerExt};

/// The serializer under test.
#[derive(Debug)]
pub struct SerializerKit {
    pub(super) format: Arc<dyn Serializer>,
}

/// What sets formats apart. Found out by trying.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SerializerTraits {
    /// Bytes say of what type they are; not so in formats that both sides must know the types for.
    pub self_describing: bool,
}

impl SerializerKit {
    pub(super) fn new(format: Arc<dyn Serializer>) -> Self {
        Self { format }
    }

    pub(super) fn traits(&self) -> SerializerTraits {
        let typed = self.encode(&(1, "x"));
        let refused = self.format.decode_value(&typed).err();
        SerializerTraits { self_describing: refused.is_none_or(|error| error.kind() != ErrorKind::Unsupported) }
    }

    /// The bytes of a typed value.
    pub(super) fn encode<T: serde::Serialize + ?Sized>(&self, value: &T) -> Vec<u8> {
        self.format.to_bytes(value).expect("plain data can be encoded")
    }

    /// The bytes of a value of any type.
    pub(super) fn encode_value(&self, value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        self.format.encode_value(value, &mut out).expect("any value can be encoded");
        out
    }

    pub(super) fn join_list(&self, items: &[Vec<u8>]) -> Vec<u8> {
        let items: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        self.format.join_list(&items, &mut out).expect("encoded values can be joined");
        out
    }

    pub(super) fn join_map(&self, entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let entries: Vec<(&str, &[u8])> = entries.iter().map(|(key, value)| (*key, value.as_slice())).collect();
        let mut out = Vec::new();
        self.format.join_map(&entries, &mut out).expect("encoded values can be joined");
        out
    }

    pub(super) fn split_list(&self, data: &[u8]) -> Vec<Vec<u8>> {
        let items = self.format.split_list(data).expect("a list can be split");
        items.into_iter().map(std::borrow::Cow::into_owned).collect()
    }

    pub(super) fn split_map(&self, data: &[u8]) -> Vec<(String, Vec<u8>)> {
        let entries = self.format.split_map(data).expect("a map can be split");
        entries.into_iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
    }

    pub(super) fn read<T: serde::de::DeserializeOwned>(&self, data: &[u8]) -> T {
        self.format.from_bytes(data).unwrap_or_else(|error| panic!("valid bytes are decoded, but: {}", error.report()))
    }

    pub(super) fn read_value(&self, data: &[u8]) -> Value {
        self.format
            .decode_value(data)
            .unwrap_or_else(|error| panic!("valid bytes are decoded, but: {}", error.report()))
    }
}

/// A map of these entries.
pub(super) fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let mut map = Map::new();
    for (key, value) in entries {
        map.insert(key, value);
    }
    Value::Map(map)
}

/// One value of every kind, and some that are easily got wrong.
pub(super) fn values() -> Vec<Value> {
    let parsed = "the literal is valid";
    let scalars = vec![
        Value::Null,
        Value::from(true),
        Value::from(false),
        Value::from(0),
        Value::from(-1),
        Value::from(255),
        Value::from(i64::MIN),
        Value::from(i64::MAX),
        Value::from(u64::MAX),
        Value::from(i128::MAX),
        Value::from(0.5),
        Value::from(-1e300),
        Value::from(f64::MIN_POSITIVE),
        Value::from(1.0),
        Value::from(""),
        Value::from("null"),
        Value::from("12"),
        Value::from("é\u{1f331}\n\t\"\\\u{0}\u{7f}\u{2028}"),
        Value::from("- a: [1, 2]\n# no comment"),
        Value::Bytes(Vec::new()),
        Value::Bytes((0..=u8::MAX).collect()),
        Value::DateTime("2026-11-22T06:57:14.257208+05:30".parse().expect(parsed)),
        Value::Date("2026-11-22".parse().expect(parsed)),
        Value::Time("06:57:14".parse().expect(parsed)),
        Value::Decimal("1.10".parse().expect(parsed)),
        Value::Uuid("67e55044-10b1-426f-9247-bb680e5fe0c8".parse().expect(parsed)),
    ];
    let keys = map([("", Value::from(1)), ("b", Value::Null), ("a", Value::from("x")), ("ключ", Value::from(false))]);
    let mut all = scalars.clone();
    all.push(Value::List(Vec::new()));
    all.push(Value::Map(Map::new()));
    all.push(keys.clone());
    all.push(Value::List(vec![keys, Value::List(scalars), Value::List(vec![Value::List(Vec::new())])]));
    all
}
