//! Bytes that nobody encoded: damaged, cut, made up.

use std::time::Duration;

use celeriac_core::Value;
use celeriac_serializer::SerializerExt;

use super::kit::{SerializerKit, values};

/// Reads `data` in every way there is. What comes of it does not matter: it must come.
fn read_all(kit: &SerializerKit, data: &[u8]) {
    let _ = kit.format.decode_value(data);
    let _ = kit.format.split_list(data);
    let _ = kit.format.split_map(data);
    let _ = kit.format.from_bytes::<String>(data);
    let _ = kit.format.from_bytes::<Vec<u64>>(data);
    let _ = kit.format.from_bytes::<(f32, Option<char>, std::collections::BTreeMap<String, Vec<i8>>)>(data);
    let mut out = Vec::new();
    let _ = kit.format.join_list(&[data, data], &mut out);
    let _ = kit.format.join_map(&[("k", data)], &mut out);
}

/// Numbers that look random and are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Bytes of many shapes, all valid.
fn samples(kit: &SerializerKit) -> Vec<Vec<u8>> {
    let values: Vec<Vec<u8>> = values().iter().map(|value| kit.encode_value(value)).collect();
    let entries: Vec<(&str, Vec<u8>)> = vec![("a", kit.encode(&(1, "x"))), ("b", kit.join_list(&values))];
    let joined = [kit.join_list(&values), kit.join_map(&entries), kit.encode(&("typed", [0.5], Some('x')))];
    values.into_iter().chain(joined).collect()
}

pub(super) async fn trailing_bytes_are_refused(kit: &SerializerKit) {
    let list = kit.join_list(&[kit.encode_value(&Value::from(1)), kit.encode_value(&Value::from("x"))]);
    let map = kit.join_map(&[("a", kit.encode_value(&Value::from(1)))]);
    let doubled = |data: &[u8]| [data, data].concat();
    assert!(kit.format.split_list(&doubled(&list)).is_err(), "`split_list` refuses a second list");
    assert!(kit.format.split_map(&doubled(&map)).is_err(), "`split_map` refuses a second map");
    assert!(kit.format.decode_value(&doubled(&list)).is_err(), "`decode_value` refuses a second value");
    assert!(kit.format.from_bytes::<(u8, String)>(&doubled(&list)).is_err(), "`decode` refuses a second value");
    let typed = kit.encode(&(1_u8, "x"));
    assert!(kit.format.from_bytes::<(u8, String)>(&doubled(&typed)).is_err(), "`decode` refuses a second value");
}

pub(super) async fn a_part_is_refused(kit: &SerializerKit) {
    let list = kit.join_list(&[kit.encode_value(&Value::from(1)), kit.encode_value(&Value::from("x"))]);
    let map = kit.join_map(&[("a", kit.encode_value(&Value::from(1)))]);
    for end in 0..list.len() {
        assert!(kit.format.split_list(&list[..end]).is_err(), "the first {end} bytes of {} are no list", list.len());
        let read = kit.format.from_bytes::<(u8, String)>(&list[..end]);
        assert!(read.is_err(), "the first {end} bytes of {} are no pair", list.len());
    }
    for end in 0..map.len() {
        assert!(kit.format.split_map(&map[..end]).is_err(), "the first {end} bytes of {} are no map", map.len());
    }
}

pub(super) async fn random_bytes_never_panic(kit: &SerializerKit) {
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    for _ in 0..3000 {
        let length = numbers.below(64);
        let data: Vec<u8> = (0..length).map(|_| numbers.byte()).collect();
        read_all(kit, &data);
    }
    for first in 0..=u8::MAX {
        read_all(kit, &[first]);
        read_all(kit, &[first, 0, 1]);
        read_all(kit, &[first, first, first, first]);
    }
}

pub(super) async fn damaged_bytes_never_panic(kit: &SerializerKit) {
    let mut numbers = Numbers(0x2545_F491_4F6C_DD1D);
    let samples = samples(kit);
    for sample in &samples {
        for _ in 0..60 {
            let mut data = sample.clone();
            for _ in 0..=numbers.below(3) {
                let at = numbers.below(data.len());
                match numbers.below(4) {
                    0 => data.truncate(at),
                    1 => data.insert(at, numbers.byte()),
                    2 if at < data.len() => drop(data.remove(at)),
                    _ => {
                        let byte = numbers.byte();
                        data.get_mut(at).into_iter().for_each(|slot| *slot = byte);
                    }
                }
            }
            read_all(kit, &data);
        }
    }
}

pub(super) async fn deep_nesting_never_overflows_the_stack(kit: &SerializerKit) {
    // The openings of JSON, YAML, msgpack and the like, alone and behind what this format's own values begin with.
    let openings =
        [b"[".as_slice(), b"{\"a\":", b"[{\"\":", b"- ", b"? ", b"&a ", b"\x91", b"\x81\xa1a", b"\x01", b"\x02\x01"];
    let starts = [Vec::new(), kit.encode_value(&Value::Null), kit.encode(&0)];
    for opening in openings {
        for start in &starts {
            let first = start.get(..1).unwrap_or_default();
            deeper_and_deeper(kit, |depth| [first, opening.repeat(depth).as_slice()].concat());
        }
    }
    deeper_and_deeper(kit, |depth| [b"[".repeat(depth), b"]".repeat(depth)].concat());
    let mut nested = kit.encode_value(&Value::Null);
    for _ in 0..1000 {
        let mut out = Vec::new();
        // A format may refuse to nest any deeper.
        if kit.format.join_list(&[&nested], &mut out).is_err() {
            break;
        }
        nested = out;
    }
    read_all(kit, &nested);
}

/// Reads bytes of growing depth, while that takes reasonable time: some parsers are quadratic, which is no stack overflow.
fn deeper_and_deeper(kit: &SerializerKit, bytes: impl Fn(usize) -> Vec<u8>) {
    for depth in [100, 1000, 10_000, 100_000] {
        let start = tokio::time::Instant::now();
        read_all(kit, &bytes(depth));
        let elapsed = start.elapsed();
        if elapsed > Duration::from_millis(50) && depth < 100_000 {
            let format = kit.format.name();
            crate::suite::note(&format!(
                "`{format}` reads {depth} levels in {elapsed:?}, so deeper ones are not tried"
            ));
            return;
        }
    }
}

pub(super) async fn claimed_lengths_allocate_nothing(kit: &SerializerKit) {
    // The largest lengths of msgpack's containers and of varints, with nothing behind them; alone, and behind what this format's own values
    // begin with. Would they be believed, the test would run out of memory.
    let starts = [kit.encode_value(&Value::Null), kit.encode(&0), kit.join_list(&[]), kit.join_map(&[])];
    for lead in [None, Some(0xDB_u8), Some(0xC6), Some(0xC9), Some(0xDD), Some(0xDF), Some(0xFC), Some(0xFD)] {
        let claim: Vec<u8> = lead.into_iter().chain([0xFF; 9]).collect();
        let nearly: Vec<u8> = lead.into_iter().chain([0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]).collect();
        for tail in [claim, nearly] {
            read_all(kit, &tail);
            for start in &starts {
                let first = start.first().copied().unwrap_or_default();
                read_all(kit, &[&[first], tail.as_slice()].concat());
            }
        }
    }
}
