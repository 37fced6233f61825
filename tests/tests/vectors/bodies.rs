//! Bodies: split, read and put together again.

use celeriac_core::{Embed, Value};
use celeriac_serializer::{Body, SerializerExt as _, Serializers};

use crate::captured::{Captured, assert_same, json, tasks};

fn formats() -> Serializers {
    Serializers::new().accept(["json", "msgpack", "yaml"]).unwrap()
}

#[test]
fn every_captured_body_splits_into_what_was_sent() {
    let formats = formats();
    for captured in tasks() {
        let name = &captured.name;
        let format = formats.for_content_type(captured.message.properties.content_type.as_deref()).unwrap();
        let plain = captured.plain_body();
        let body = Body::split(format.as_ref(), &plain).unwrap_or_else(|error| panic!("{name}: {error}"));
        let args: Vec<Value> = body.args.iter().map(|arg| format.decode_value(arg).unwrap()).collect();
        assert_same(&json(&Value::List(args)), &captured.body[0], name);
        let kwargs = body.kwargs.iter().map(|(key, value)| (key.as_ref(), format.decode_value(value).unwrap()));
        assert_same(&json(&Value::Map(kwargs.collect())), &captured.body[1], name);
        let joined = format.decode_value(&body.join(format.as_ref()).unwrap()).unwrap();
        assert_eq!(joined, format.decode_value(&plain).unwrap(), "{name}");
    }
}

#[test]
fn every_captured_embed_is_read_and_written_as_it_came() {
    let formats = formats();
    let mut with_something = 0;
    for captured in tasks() {
        let name = &captured.name;
        let format = formats.for_content_type(captured.message.properties.content_type.as_deref()).unwrap();
        let plain = captured.plain_body();
        let body = Body::split(format.as_ref(), &plain).unwrap();
        let embed: Embed = format.from_bytes(&body.embed).unwrap_or_else(|error| panic!("{name}: {error}"));
        with_something += usize::from(!embed.is_empty());
        let written = format.decode_value(&format.to_bytes(&embed).unwrap()).unwrap();
        assert_same(&json(&written), &captured.body[2], name);
    }
    assert!(with_something > 50, "only {with_something} bodies had callbacks, a chain or a chord");
}

#[test]
fn an_embed_has_what_the_call_said() {
    let embed = |file, name| -> Embed {
        let captured = Captured::named(file, name);
        let formats = formats();
        let format = formats.by_name("json").unwrap();
        let body = Body::split(format.as_ref(), &captured.message.body).unwrap();
        format.from_bytes(&body.embed).unwrap()
    };
    let linked = embed("amqp_task_messages", "link_and_link_error");
    assert_eq!((linked.callbacks.unwrap().len(), linked.errbacks.unwrap().len()), (1, 2));
    // The next step is the last of the list; the last step of a chain has an empty one.
    let first = embed("canvas_amqp", "canvas_chain3:client:1").chain.unwrap();
    assert_eq!(first.iter().map(|step| step.args.clone()).collect::<Vec<_>>().len(), 2);
    assert_eq!(first.last().unwrap().task, "wire.add");
    let last = embed("canvas_amqp", "canvas_chain3:task:2");
    assert_eq!(last.chain.as_deref(), Some(&[][..]));
    assert!(last.is_empty());
    let member = embed("canvas_redis", "chord_simple:client:1");
    assert_eq!(member.chord.unwrap().task, "wire.ident");
}
