//! Single values, of any type and of known types.

use std::collections::BTreeMap;

use celeriac_core::{ErrorKind, Value};
use celeriac_serializer::SerializerExt;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};

use super::kit::{SerializerKit, map, values};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    items: Vec<(String, i32)>,
    note: Option<String>,
    missing: Option<u8>,
    payment: Payment,
    tags: BTreeMap<String, f64>,
    letter: char,
    nothing: (),
    nested: Box<Option<(i8, i16, u32)>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Payment {
    Cash,
    Card(u32),
    Transfer { iban: String, days: u8 },
    Split(Vec<Self>, bool),
}

fn order() -> Order {
    Order {
        id: u64::MAX,
        customer: "Žofia \u{1f331}".to_owned(),
        items: vec![("tea".to_owned(), -2), (String::new(), i32::MAX)],
        note: Some("\"quoted\"\n".to_owned()),
        missing: None,
        payment: Payment::Split(
            vec![Payment::Cash, Payment::Card(7), Payment::Transfer { iban: "DE00".to_owned(), days: 30 }],
            true,
        ),
        tags: BTreeMap::from([("a".to_owned(), 0.25), ("b".to_owned(), -1e10)]),
        letter: 'ß',
        nothing: (),
        nested: Box::new(Some((-128, 300, u32::MAX))),
    }
}

pub(super) async fn any_value_comes_back(kit: &SerializerKit) {
    for value in values() {
        assert_eq!(kit.read_value(&kit.encode_value(&value)), value, "the value comes back as it was");
    }
}

pub(super) async fn typed_data_comes_back(kit: &SerializerKit) {
    assert_eq!(kit.read::<Order>(&kit.encode(&order())), order());
    assert_eq!(kit.read::<(i64, i64)>(&kit.encode(&(i64::MIN, i64::MAX))), (i64::MIN, i64::MAX));
    assert_eq!(kit.read::<Vec<f32>>(&kit.encode(&vec![0.1_f32, -0.0, 1e-40])), [0.1, -0.0, 1e-40]);
    assert_eq!(kit.read::<Option<String>>(&kit.encode(&None::<String>)), None);
    assert_eq!(kit.read::<Vec<u8>>(&kit.encode::<Vec<u8>>(&Vec::new())), Vec::<u8>::new());
    assert_eq!(kit.read::<String>(&kit.encode("borrowed")), "borrowed");
    kit.read::<()>(&kit.encode(&()));
}

pub(super) async fn encoding_appends(kit: &SerializerKit) {
    let (typed, value) = (kit.encode(&order()), kit.encode_value(&Value::from("x")));
    let mut out = b"before".to_vec();
    kit.format.encode(&order(), &mut out).expect("plain data can be encoded");
    kit.format.encode_value(&Value::from("x"), &mut out).expect("any value can be encoded");
    kit.format.join_list(&[&value], &mut out).expect("encoded values can be joined");
    kit.format.join_map(&[("k", &value)], &mut out).expect("encoded values can be joined");
    let list = kit.join_list(std::slice::from_ref(&value));
    let map = kit.join_map(&[("k", value.clone())]);
    assert!(out == [b"before".as_slice(), &typed, &value, &list, &map].concat(), "each appends its own bytes");
}

pub(super) async fn another_type_is_an_error(kit: &SerializerKit) {
    let value = kit.encode_value(&map([("id", Value::from("text"))]));
    for error in [
        kit.format.from_bytes::<Order>(&value).err(),
        kit.format.from_bytes::<u8>(&value).err(),
        kit.format.from_bytes::<Vec<String>>(&value).err(),
    ] {
        let error = error.expect("a map of one text is none of these");
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    }
}

pub(super) async fn a_failing_visit_is_an_error(kit: &SerializerKit) {
    let data = kit.encode("x");
    let outcome = kit.format.decode(&data, &mut |_| Err(erased_serde::Error::custom("not wanted")));
    let error = outcome.expect_err("the visit failed");
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert!(error.report().contains("not wanted"), "the visit's reason is told: {}", error.report());
}

pub(super) async fn typed_data_is_read_as_a_value(kit: &SerializerKit) {
    let value = kit.read_value(&kit.encode(&order()));
    assert_eq!(value.get("customer").and_then(Value::as_str), Some("Žofia \u{1f331}"));
    assert_eq!(value.get("id").and_then(Value::as_u64), Some(u64::MAX));
    assert_eq!(value.get("missing"), Some(&Value::Null));
    assert_eq!(value.deserialize_into::<Order>().expect("a value becomes typed data"), order());
}
