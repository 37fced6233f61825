//! The forms are those of `amqp_task_messages.json` and `kombu_json_types.json`, captured from celery 5.7.

use std::collections::BTreeMap;

use serde::Serialize;

use super::*;
use crate::Value;

fn one<T: Serialize + ?Sized>(value: &T) -> String {
    let mut writer = ReprWriter::positional();
    writer.push(value);
    writer.finish()
}

#[test]
fn arguments_print_as_a_python_tuple() {
    assert_eq!(args_repr::<u8>(&[]), "()");
    assert_eq!(args_repr(&[1]), "(1,)");
    assert_eq!(args_repr(&[2, 3]), "(2, 3)");
    assert_eq!(kwargs_repr::<u8>([]), "{}");
    assert_eq!(kwargs_repr([("x", 1), ("y", 2)]), "{'x': 1, 'y': 2}");
}

#[test]
fn nested_containers_are_elided_like_celery_does() {
    let mut writer = ReprWriter::positional();
    let c = BTreeMap::from([("c", 1)]);
    writer.push(&BTreeMap::from([("a", BTreeMap::from([("b", c)]))]));
    writer.push(&vec![vec![vec![1]]]).push(&(1,)).push(&()).push(&true).push(&1.5).push("it's");
    assert_eq!(writer.finish(), r"({'a': {'b': {...}}}, [[[...]]], (1,), None, True, 1.5, 'it\'s')");
}

#[test]
fn bytes_print_as_text_or_hex() {
    assert_eq!(one(&Value::Bytes(vec![0, 255])), "(b'00ff',)");
    assert_eq!(one(&Value::Bytes(b"ab".to_vec())), "(b'ab',)");
}

#[test]
fn floats_print_as_python_prints_them() {
    let cases = [
        (1.0, "1.0"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e-4, "0.0001"),
        (1e-5, "1e-05"),
        (1.5e-7, "1.5e-07"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e+16"),
        (1e20, "1e+20"),
        (1.5e300, "1.5e+300"),
        (f64::NEG_INFINITY, "-inf"),
    ];
    for (value, text) in cases {
        let mut out = String::new();
        push_float(&mut out, value);
        assert_eq!(out, text);
    }
}

#[test]
fn a_long_text_is_cut() {
    let text = one(&"x".repeat(5000));
    assert!(text.ends_with("xx...',)"), "{text}");
    assert!(text.len() < 1050);
}

#[test]
fn a_long_list_is_cut_and_closed() {
    let text = one(&vec![vec![12345; 100]; 100]);
    assert!(text.ends_with(", ...]],)"), "{text}");
    assert!(text.len() < 1050);
}

#[test]
fn what_does_not_fit_is_not_looked_at() {
    struct Counted<'a>(&'a std::cell::Cell<u32>);
    impl Serialize for Counted<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.set(self.0.get() + 1);
            serializer.serialize_str(&"y".repeat(100))
        }
    }
    let looked_at = std::cell::Cell::new(0);
    let items: Vec<_> = (0..1000).map(|_| Counted(&looked_at)).collect();
    let text = args_repr(&items);
    assert!(looked_at.get() < 15, "{}", looked_at.get());
    assert!(text.ends_with(", ...)"), "{text}");
}

#[test]
fn big_integers_print_bare() {
    let big: Value = crate::value::BigInt::new(&"9".repeat(50)).unwrap().into();
    assert_eq!(one(&big), format!("({},)", "9".repeat(50)));
}
