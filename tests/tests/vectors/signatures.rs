//! Signatures, wherever they stand in a captured message.

use std::collections::BTreeMap;

use celeriac_core::{Canvas, Map, Signature, Value};
use serde_json::Value as Case;

use crate::captured::{Captured, assert_same, json, messages};

/// Every signature in `value`, also those inside of others.
fn signatures<'a>(value: &'a Case, found: &mut Vec<&'a Case>) {
    match value {
        Case::Object(object) => {
            if object.contains_key("task") && object.contains_key("subtask_type") {
                found.push(value);
            }
            object.values().for_each(|value| signatures(value, found));
        }
        Case::Array(items) => items.iter().for_each(|value| signatures(value, found)),
        _ => {}
    }
}

#[test]
fn every_captured_signature_is_written_as_it_came() {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for captured in messages() {
        let mut found = Vec::new();
        signatures(&captured.body, &mut found);
        for raw in found {
            let signature: Signature = serde_json::from_value(raw.clone()).unwrap();
            assert_same(&json(&signature.to_value()), raw, &captured.name);
            assert!(signature.extra.is_empty(), "{}: {:?}", captured.name, signature.extra);
            let kind = match signature.canvas().unwrap_or_else(|error| panic!("{}: {error}", captured.name)) {
                Canvas::Task => "task",
                Canvas::Chain(tasks) => {
                    assert_eq!(Some(tasks.len()), raw["kwargs"]["tasks"].as_array().map(Vec::len), "{}", captured.name);
                    "chain"
                }
                Canvas::Group(tasks) => {
                    assert_eq!(Some(tasks.len()), raw["kwargs"]["tasks"].as_array().map(Vec::len), "{}", captured.name);
                    "group"
                }
                Canvas::Chord { header, body } => {
                    assert!(!header.is_empty(), "{}", captured.name);
                    assert_same(&json(&body.to_value()), &raw["kwargs"]["body"], &captured.name);
                    "chord"
                }
                other => panic!("{}: {other:?}", captured.name),
            };
            assert_eq!(raw["subtask_type"].as_str().unwrap_or("task"), kind, "{}", captured.name);
            *kinds.entry(kind).or_default() += 1;
        }
    }
    assert_eq!(kinds.keys().copied().collect::<Vec<_>>(), ["chain", "chord", "group", "task"]);
    assert!(kinds["task"] > 100, "{kinds:?}");
}

/// A captured call of `celery.map` and the like as the signature that it was.
fn mapped(name: &str, subtask_type: &str) -> Canvas {
    let captured = Captured::named("canvas_amqp", name);
    let task = captured.message.task().unwrap().task.clone();
    let mut signature = Signature::new(task);
    signature.kwargs = serde_json::from_value::<Value>(captured.body[1].clone()).unwrap().as_map().unwrap().clone();
    signature.subtask_type = Some(subtask_type.to_owned());
    signature.canvas().unwrap()
}

#[test]
fn maps_and_chunks_are_taken_apart() {
    let Canvas::Map { task, items } = mapped("canvas_map:client:1", "xmap") else { panic!("no map") };
    assert_eq!((task.task.as_str(), items.as_list().map(<[Value]>::len)), ("wire.ident", Some(3)));
    let Canvas::Starmap { task, items } = mapped("canvas_starmap:client:1", "xstarmap") else { panic!("no starmap") };
    assert_eq!((task.task.as_str(), items.as_list().map(<[Value]>::len)), ("wire.add", Some(2)));
    // The sender has cut chunks into starmaps by the time they are sent.
    for name in ["canvas_chunks:client:1", "canvas_chunks:client:2"] {
        assert!(matches!(mapped(name, "xstarmap"), Canvas::Starmap { .. }), "{name}");
    }
    let mut chunks = Signature::named("celery.chunks");
    let Canvas::Starmap { task, items } = mapped("canvas_chunks:client:1", "xstarmap") else { panic!("no starmap") };
    let entries = [("task", task.to_value()), ("it", items), ("n", Value::from(2))];
    chunks.kwargs = entries.into_iter().collect::<Map>();
    chunks.subtask_type = Some("chunks".to_owned());
    assert!(matches!(chunks.canvas().unwrap(), Canvas::Chunks { size: 2, .. }));
}
