//! Putting encoded values together and taking them apart.

use std::slice::from_ref;

use celeriac_core::Value;

use super::kit::{SerializerKit, map, values};

/// Items of many types, each encoded on its own.
fn items(kit: &SerializerKit) -> Vec<Vec<u8>> {
    vec![kit.encode(&1_u8), kit.encode("two, \"2\""), kit.encode(&(3, [4.5], ())), kit.encode(&None::<u8>)]
}

pub(super) async fn a_joined_list_splits_into_its_items(kit: &SerializerKit) {
    for count in 0..=4 {
        let items = &items(kit)[..count];
        let split = kit.split_list(&kit.join_list(items));
        assert_eq!(split.len(), count, "as many items as were joined");
        for (item, whole) in split.iter().zip(items) {
            // The bytes may be written otherwise, as long as they mean the same.
            assert_eq!(kit.join_list(from_ref(item)), kit.join_list(from_ref(whole)), "each item as it was joined");
        }
    }
    let values: Vec<Vec<u8>> = values().iter().map(|value| kit.encode_value(value)).collect();
    let split = kit.split_list(&kit.join_list(&values));
    let read: Vec<Value> = split.iter().map(|item| kit.read_value(item)).collect();
    assert_eq!(read, self::values(), "each item as it was joined");
}

pub(super) async fn a_joined_map_splits_into_its_entries(kit: &SerializerKit) {
    assert!(kit.split_map(&kit.join_map(&[])).is_empty(), "an empty map has no entries");
    let keys = ["z", "", "a", "ключ", "with \"quotes\": and\nlines", "1", "null"];
    let entries: Vec<(&str, Vec<u8>)> = keys.iter().enumerate().map(|(n, key)| (*key, kit.encode(&n))).collect();
    let split = kit.split_map(&kit.join_map(&entries));
    let read: Vec<(&str, usize)> = split.iter().map(|(key, value)| (key.as_str(), kit.read(value))).collect();
    let expected: Vec<(&str, usize)> = keys.iter().enumerate().map(|(n, key)| (*key, n)).collect();
    assert_eq!(read, expected, "each entry as it was joined, in order");
}

pub(super) async fn joined_values_are_read_as_a_whole(kit: &SerializerKit) {
    let (number, text) = (kit.encode(&7_i32), kit.encode("x"));
    let list = kit.join_list(&[number.clone(), text.clone()]);
    assert_eq!(kit.read::<(i32, String)>(&list), (7, "x".to_owned()), "into the same types");
    let joined = kit.join_map(&[("a", number), ("b", text)]);
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Pair {
        a: i32,
        b: String,
    }
    assert_eq!(kit.read::<Pair>(&joined), Pair { a: 7, b: "x".to_owned() }, "into a struct");
    let (number, text) = (kit.encode_value(&Value::from(7)), kit.encode_value(&Value::from("x")));
    let list = kit.join_list(&[number.clone(), text.clone()]);
    assert_eq!(kit.read_value(&list), Value::List(vec![Value::from(7), Value::from("x")]), "into any value");
    let joined = kit.join_map(&[("a", number), ("b", text)]);
    assert_eq!(kit.read_value(&joined), map([("a", Value::from(7)), ("b", Value::from("x"))]), "into any value");
}

pub(super) async fn joining_nests(kit: &SerializerKit) {
    // A task's body: arguments, keyword arguments, embedded signatures.
    let args = kit.join_list(&[kit.encode(&2_u8), kit.encode("x")]);
    let kwargs = kit.join_map(&[("debug", kit.encode(&true))]);
    let embed = kit.join_map(&[("chain", kit.join_list(&[])), ("chord", kit.encode(&None::<u8>))]);
    let body = kit.join_list(&[args, kwargs, embed]);
    let parts = kit.split_list(&body);
    let [args, kwargs, embed] = parts.as_slice() else { panic!("three parts were joined, {} split", parts.len()) };
    assert_eq!(kit.read::<(u8, String)>(args), (2, "x".to_owned()));
    let kwargs = kit.split_map(kwargs);
    assert_eq!(
        kwargs.iter().map(|(key, value)| (key.as_str(), kit.read(value))).collect::<Vec<(&str, bool)>>(),
        [("debug", true)]
    );
    let embed = kit.split_map(embed);
    assert_eq!(embed.len(), 2, "both entries of the innermost map");
    assert!(embed.first().is_some_and(|(key, chain)| key == "chain" && kit.split_list(chain).is_empty()));
}

pub(super) async fn an_item_can_be_put_in_front(kit: &SerializerKit) {
    let mut args = kit.split_list(&kit.join_list(&[kit.encode(&1_u8), kit.encode("x")]));
    args.insert(0, kit.encode(&("result", 0.5)));
    let joined = kit.join_list(&args);
    let read: ((String, f64), u8, String) = kit.read(&joined);
    assert_eq!(read, (("result".to_owned(), 0.5), 1, "x".to_owned()), "the result goes before the arguments");
    let alone = kit.join_list(&[kit.encode(&9_u8)]);
    assert_eq!(kit.read::<(u8,)>(&alone), (9,), "also before none");
}

pub(super) async fn an_encoded_list_of_values_splits(kit: &SerializerKit) {
    let whole = kit.encode_value(&Value::List(values()));
    let read: Vec<Value> = kit.split_list(&whole).iter().map(|item| kit.read_value(item)).collect();
    assert_eq!(read, values(), "each item as it was in the list");
    assert!(kit.split_list(&kit.encode_value(&Value::List(Vec::new()))).is_empty(), "an empty list has no items");
    let whole = map([("b", Value::from(1)), ("a", Value::List(values()))]);
    let split = kit.split_map(&kit.encode_value(&whole));
    let read: Vec<(&str, Value)> = split.iter().map(|(key, value)| (key.as_str(), kit.read_value(value))).collect();
    assert_eq!(
        read,
        [("b", Value::from(1)), ("a", Value::List(values()))],
        "each entry as it was in the map, in order"
    );
}

pub(super) async fn an_encoded_typed_list_splits(kit: &SerializerKit) {
    let items = kit.split_list(&kit.encode(&(1_u8, "x", [0.5])));
    let [number, text, list] = items.as_slice() else { panic!("three were encoded, {} split", items.len()) };
    assert_eq!(
        (kit.read::<u8>(number), kit.read::<String>(text), kit.read::<Vec<f64>>(list)),
        (1, "x".to_owned(), vec![0.5])
    );
    let entries = kit.split_map(&kit.encode(&std::collections::BTreeMap::from([("a", 1), ("b", 2)])));
    let read: Vec<(&str, u8)> = entries.iter().map(|(key, value)| (key.as_str(), kit.read(value))).collect();
    assert_eq!(read, [("a", 1), ("b", 2)]);
}

pub(super) async fn what_is_no_list_or_map_is_not_split(kit: &SerializerKit) {
    let (list, joined) = (kit.join_list(&[kit.encode(&1)]), kit.join_map(&[("a", kit.encode(&1))]));
    let (text, number) = (kit.encode_value(&Value::from("[1]")), kit.encode_value(&Value::from(1)));
    for data in [&joined, &text, &number] {
        assert!(kit.format.split_list(data).is_err(), "only a list is split as one");
    }
    for data in [&list, &text, &number] {
        assert!(kit.format.split_map(data).is_err(), "only a map is split as one");
    }
}
