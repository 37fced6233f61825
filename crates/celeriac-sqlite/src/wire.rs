//! The compact form of headers, properties and other values in a row: exact for every [`Value`], unlike JSON.
//!
//! A byte for the form's version, then values: a byte for the kind, then the content. Lengths and integers take seven bits
//! a byte, lowest first; signed ones are zigzagged.

use std::borrow::Cow;

use celeriac_core::{DeliveryMode, HeaderValue, Headers, Map, Priority, Properties, Value};

/// Older processes cannot read what newer ones write. So whoever changes this or [`NAMES`] also counts up the version of the
/// tables, at which they stop.
const VERSION: u8 = 2;

/// How deep values may nest before the reader gives up; deeper than any serializer of celeriac accepts.
const MAX_DEPTH: usize = 256;

/// Names that go as their number, from 1 on; 0 is followed by a name that is not here. New names go to the end.
const NAMES: [&str; 26] = [
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
    "compression",
    "content_type",
    "content_encoding",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
];

/// Stands for the text that the header `id` has: most messages say it three times.
const SAME_AS_ID: u8 = 16;

/// Headers, then properties: each a list of named values that ends with [`END`]. What a task leaves out is left out.
pub(crate) fn encode_head(headers: &Headers, properties: &Properties) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut names = Names::default();
    out.push(VERSION);
    let own_id = headers.task().map(|task| task.id.as_str());
    // The reader knows the id once it has read that header, and not before.
    let (mut id, mut told) = (None, false);
    let plain = headers.task().is_some() && headers.malformed().is_none();
    headers.visit(|name, value| {
        let left_out = match value {
            HeaderValue::Null => true,
            HeaderValue::Map(map) => map.is_empty(),
            HeaderValue::Value(Value::List(limits)) if name == "timelimit" => limits.iter().all(Value::is_null),
            _ => false,
        };
        if plain && left_out {
            return;
        }
        names.put(&mut out, name);
        match value {
            HeaderValue::Null => out.push(0),
            HeaderValue::Bool(bool) => put(&mut out, &Value::Bool(bool)),
            HeaderValue::Int(int) => put(&mut out, &Value::Int(int)),
            HeaderValue::Str(text) if name != "id" => put_text(&mut out, text, id),
            HeaderValue::Str(text) => {
                put_text(&mut out, text, None);
                if !told {
                    id = own_id.filter(|id| *id == text);
                }
            }
            HeaderValue::Map(map) => {
                out.push(9);
                put_map(&mut out, map);
            }
            HeaderValue::Value(value) => put(&mut out, value),
        }
        told |= name == "id";
    });
    out.push(END);
    let mut text = |name: &str, text: Option<&str>| {
        if let Some(text) = text {
            names.put(&mut out, name);
            put_text(&mut out, text, id);
        }
    };
    text("content_type", properties.content_type.as_deref());
    text("content_encoding", properties.content_encoding.as_deref());
    text("correlation_id", properties.correlation_id.as_deref());
    text("reply_to", properties.reply_to.as_deref());
    let mut int = |name: &str, int: Option<i64>| {
        if let Some(int) = int {
            names.put(&mut out, name);
            put(&mut out, &Value::Int(int));
        }
    };
    int("delivery_mode", properties.delivery_mode.map(i64::from));
    int("priority", properties.priority.map(|priority| i64::from(priority.0)));
    if properties.expiration.is_some() || !properties.extra.is_empty() {
        let rest =
            Properties { expiration: properties.expiration, extra: properties.extra.clone(), ..Properties::default() };
        for (name, value) in &rest.to_map() {
            names.put(&mut out, name);
            put(&mut out, value);
        }
    }
    out.push(END);
    out
}

/// Ends a list of named values.
const END: u8 = 0xff;

/// Writes names: most come in the order of [`NAMES`], and so each is looked for from where the last one was.
#[derive(Default)]
struct Names {
    last: usize,
}

impl Names {
    fn put(&mut self, out: &mut Vec<u8>, name: &str) {
        let (before, after) = NAMES.split_at(self.last);
        let found = after.iter().chain(before).position(|known| *known == name);
        let found = found.map(|steps| (self.last + steps) % NAMES.len());
        match found.and_then(|at| u8::try_from(at + 1).ok().map(|number| (at, number))) {
            Some((at, number)) => {
                self.last = at;
                out.push(number);
            }
            None => {
                out.push(0);
                put_bytes(out, name.as_bytes());
            }
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str, id: Option<&str>) {
    if id == Some(text) {
        out.push(SAME_AS_ID);
    } else {
        out.push(6);
        put_bytes(out, text.as_bytes());
    }
}

/// Never fails: what cannot be read is left out.
pub(crate) fn decode_head(bytes: &[u8]) -> (Headers, Properties) {
    let mut reader = Reader::new(bytes);
    if reader.byte() != Some(VERSION) {
        return (Headers::new(), Properties::default());
    }
    let mut headers = Headers::reader();
    let mut id = None;
    let whole = reader.named(&mut id, |name, value| headers.put(name, value.into_value()));
    let mut properties = Properties::default();
    let mut rest = Map::new();
    if whole.is_some() {
        // As far as they can be read.
        let _ = reader.named(&mut id, |name, value| {
            if !put_property(&mut properties, name, &value) {
                rest.insert(name, value.into_value());
            }
        });
    }
    if !rest.is_empty() {
        let rest = Properties::from_map(rest);
        properties = Properties {
            content_type: properties.content_type.or(rest.content_type),
            content_encoding: properties.content_encoding.or(rest.content_encoding),
            correlation_id: properties.correlation_id.or(rest.correlation_id),
            reply_to: properties.reply_to.or(rest.reply_to),
            delivery_mode: properties.delivery_mode.or(rest.delivery_mode),
            priority: properties.priority.or(rest.priority),
            expiration: rest.expiration,
            extra: rest.extra,
        };
    }
    (headers.finish(), properties)
}

/// Takes what most messages have, which then needs no table; `false` if it is anything else.
fn put_property(properties: &mut Properties, name: &str, value: &Read<'_>) -> bool {
    match (name, value) {
        ("content_type", Read::Text(text)) => {
            properties.content_type = text.parse().ok();
            properties.content_type.is_some()
        }
        ("content_encoding", Read::Text("utf-8")) => {
            properties.content_encoding = Some(Cow::Borrowed("utf-8"));
            true
        }
        ("correlation_id", Read::Text(text)) => {
            properties.correlation_id = text.parse().ok();
            properties.correlation_id.is_some()
        }
        ("reply_to", Read::Text(text)) => {
            properties.reply_to = text.parse().ok();
            properties.reply_to.is_some()
        }
        ("delivery_mode", Read::Value(Value::Int(2))) => {
            properties.delivery_mode = Some(DeliveryMode::Persistent);
            true
        }
        ("priority", Read::Value(Value::Int(level))) => {
            properties.priority = u8::try_from(*level).ok().map(Priority);
            properties.priority.is_some()
        }
        _ => false,
    }
}

pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut out = vec![VERSION];
    put(&mut out, value);
    out
}

/// `None` if the bytes are not what [`encode`] writes.
pub(crate) fn decode(bytes: &[u8]) -> Option<Value> {
    let mut reader = Reader::new(bytes);
    if reader.byte()? != VERSION {
        return None;
    }
    reader.value(0).filter(|_| reader.rest.is_empty())
}

fn put(out: &mut Vec<u8>, value: &Value) {
    let mut tagged = |tag: u8, content: &[u8]| {
        out.push(tag);
        put_bytes(out, content);
    };
    match value {
        Value::Null => out.push(0),
        Value::Bool(false) => out.push(1),
        Value::Bool(true) => out.push(2),
        Value::Int(int) => {
            out.push(3);
            put_count(out, ((int << 1) ^ (int >> 63)).cast_unsigned());
        }
        Value::UInt(int) => {
            out.push(4);
            put_count(out, *int);
        }
        Value::Float(float) => {
            out.push(5);
            out.extend_from_slice(&float.to_le_bytes());
        }
        Value::Str(text) => tagged(6, text.as_bytes()),
        Value::Bytes(bytes) => tagged(7, bytes),
        Value::List(items) => {
            out.push(8);
            put_length(out, items.len());
            items.iter().for_each(|item| put(out, item));
        }
        Value::Map(map) => {
            out.push(9);
            put_map(out, map);
        }
        Value::BigInt(int) => tagged(10, int.as_str().as_bytes()),
        Value::DateTime(time) => tagged(11, time.as_str().as_bytes()),
        Value::Date(date) => tagged(12, date.as_str().as_bytes()),
        Value::Time(time) => tagged(13, time.as_str().as_bytes()),
        Value::Decimal(decimal) => tagged(14, decimal.as_str().as_bytes()),
        Value::Uuid(uuid) => {
            out.push(15);
            out.extend_from_slice(uuid.as_bytes());
        }
        other => tagged(6, format!("{other:?}").as_bytes()),
    }
}

fn put_map(out: &mut Vec<u8>, map: &Map) {
    put_length(out, map.len());
    for (key, value) in map {
        put_bytes(out, key.as_bytes());
        put(out, value);
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    put_count(out, u64::try_from(length).unwrap_or(u64::MAX));
}

fn put_count(out: &mut Vec<u8>, mut count: u64) {
    while count >= 0x80 {
        out.push(count.to_le_bytes()[0] | 0x80);
        count >>= 7;
    }
    out.push(count.to_le_bytes()[0]);
}

/// A named value as it was read: text stays where it is.
enum Read<'a> {
    Text(&'a str),
    Value(Value),
}

impl Read<'_> {
    fn into_value(self) -> Value {
        match self {
            Self::Text(text) => Value::Str(text.to_owned()),
            Self::Value(value) => value,
        }
    }
}

/// Reads from the front; `None` wherever the bytes are not as they should be.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn count(&mut self) -> Option<u64> {
        let mut count = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            count |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(count);
            }
        }
        None
    }

    /// A number of things of at least one byte each: never more than there are bytes.
    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.count()?).ok().filter(|length| *length <= self.rest.len())
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        let (slice, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(slice)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*array)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.slice()?).ok()
    }

    /// Reads named values up to [`END`]. `id` is the text that [`SAME_AS_ID`] stands for, once it is known.
    fn named(&mut self, id: &mut Option<&'a str>, mut see: impl FnMut(&str, Read<'a>)) -> Option<()> {
        loop {
            let name = match self.byte()? {
                END => return Some(()),
                0 => self.text()?,
                number => NAMES.get(usize::from(number) - 1).copied()?,
            };
            let value = match self.rest.first()? {
                &SAME_AS_ID => {
                    self.byte()?;
                    Read::Text((*id)?)
                }
                6 => {
                    self.byte()?;
                    let text = self.text()?;
                    // The header comes before all that may repeat it.
                    if name == "id" {
                        id.get_or_insert(text);
                    }
                    Read::Text(text)
                }
                _ => Read::Value(self.value(0)?),
            };
            see(name, value);
        }
    }

    fn map(&mut self, depth: usize) -> Option<Map> {
        let length = self.length()?;
        let mut map = Map::with_capacity(length.min(1024));
        for _ in 0..length {
            let key = self.text()?;
            let value = self.value(depth + 1)?;
            map.insert(key, value);
        }
        Some(map)
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        Some(match self.byte()? {
            0 => Value::Null,
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => {
                let count = self.count()?;
                Value::Int((count >> 1).cast_signed() ^ -(count & 1).cast_signed())
            }
            4 => Value::UInt(self.count()?),
            5 => Value::Float(f64::from_le_bytes(self.array()?)),
            6 => Value::Str(self.text()?.to_owned()),
            7 => Value::Bytes(self.slice()?.to_vec()),
            8 => {
                let length = self.length()?;
                let mut items = Vec::with_capacity(length.min(1024));
                for _ in 0..length {
                    items.push(self.value(depth + 1)?);
                }
                Value::List(items)
            }
            9 => Value::Map(self.map(depth)?),
            10 => Value::BigInt(self.text()?.parse().ok()?),
            11 => Value::DateTime(self.text()?.parse().ok()?),
            12 => Value::Date(self.text()?.parse().ok()?),
            13 => Value::Time(self.text()?.parse().ok()?),
            14 => Value::Decimal(self.text()?.parse().ok()?),
            15 => Value::Uuid(celeriac_core::value::Uuid::from_bytes(self.array()?)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use celeriac_core::{TaskHeaders, TaskId, TaskName};

    use super::*;

    fn everything() -> Value {
        let mut map = Map::new();
        map.insert("nothing", Value::Null);
        map.insert("bytes", Value::Bytes(vec![0, 255, 7]));
        map.insert("numbers", vec![Value::from(i64::MIN), Value::from(-1), Value::from(u64::MAX), Value::Float(-0.5)]);
        map.insert("big", Value::BigInt("123456789012345678901234567890".parse().unwrap()));
        map.insert("time", Value::DateTime("2026-01-02T03:04:05.000678+00:00".parse().unwrap()));
        map.insert("date", Value::Date("2026-01-02".parse().unwrap()));
        map.insert("clock", Value::Time("03:04:05".parse().unwrap()));
        map.insert("price", Value::Decimal("3.140".parse().unwrap()));
        map.insert("id", Value::Uuid("a56a8b4e-0f4c-4f6c-8f5e-6f4f2f1c1f0e".parse().unwrap()));
        map.insert("truth", vec![Value::Bool(true), Value::Bool(false)]);
        Value::Map(map)
    }

    #[test]
    fn every_kind_of_value_comes_back_the_same() {
        assert_eq!(decode(&encode(&everything())), Some(everything()));
    }

    #[test]
    fn headers_and_properties_come_back_the_same() {
        let mut task = TaskHeaders::new(TaskName::from_static("add"), TaskId::random());
        task.extra.insert("all", everything());
        let headers = Headers::from(task);
        let mut extra = Map::new();
        extra.insert("all", everything());
        let rare = Properties {
            content_encoding: Some("binary".into()),
            delivery_mode: Some(DeliveryMode::Transient),
            priority: Some(Priority(7)),
            expiration: Some(Duration::from_millis(1500)),
            extra,
            ..Properties::default()
        };
        let usual = Properties {
            content_type: Some("application/json".parse().unwrap()),
            content_encoding: Some("utf-8".into()),
            correlation_id: Some("another".parse().unwrap()),
            reply_to: Some("answers".parse().unwrap()),
            delivery_mode: Some(DeliveryMode::Persistent),
            ..Properties::default()
        };
        let both = Properties { content_type: None, expiration: Some(Duration::ZERO), ..usual.clone() };
        for properties in [rare, usual, both, Properties::default()] {
            assert_eq!(decode_head(&encode_head(&headers, &properties)), (headers.clone(), properties));
        }
    }

    #[test]
    fn a_property_of_the_wrong_type_is_kept_aside() {
        let mut bytes = encode_head(&Headers::new(), &Properties::default());
        bytes.pop();
        for (name, value) in [("content_type", Value::from("json")), ("delivery_mode", Value::Int(3))] {
            Names::default().put(&mut bytes, name);
            put(&mut bytes, &value);
        }
        bytes.push(END);
        let (_, properties) = decode_head(&bytes);
        assert_eq!((&properties.content_type, properties.delivery_mode), (&None, None));
        assert_eq!(properties.extra.get("content_type"), Some(&Value::from("json")));
        assert_eq!(properties.extra.get("delivery_mode"), Some(&Value::Int(3)));
    }

    #[test]
    fn a_task_whose_name_or_language_is_its_id_comes_back_the_same() {
        let mut task = TaskHeaders::new(TaskName::from_static("cleanup"), TaskId::new("cleanup").unwrap());
        task.lang = "cleanup".to_owned().into();
        let headers = Headers::from(task);
        let properties = Properties { correlation_id: Some("cleanup".parse().unwrap()), ..Properties::default() };
        assert_eq!(decode_head(&encode_head(&headers, &properties)), (headers, properties));
    }

    #[test]
    fn bytes_cut_short_or_changed_never_panic() {
        let whole = encode(&everything());
        for end in 0..whole.len() {
            assert_eq!(decode(whole.get(..end).unwrap()), None);
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 9, 0x7f, 0xff] {
                let mut changed = whole.clone();
                *changed.get_mut(at).unwrap() = byte;
                let _ = decode(&changed);
                let _ = decode_head(&changed);
            }
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut bytes = vec![VERSION];
        bytes.extend([8, 1].repeat(100_000));
        assert_eq!(decode(&bytes), None);
    }
}
