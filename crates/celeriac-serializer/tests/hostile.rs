//! Bytes from strangers: crafted lengths, deep nesting, bombs, truncation.

#![cfg(test)]

use celeriac_core::{ErrorKind, Value};
use celeriac_serializer::{Compression, SerializerExt as _, Serializers};
use serde::{Deserialize, Serialize};

const FORMATS: [&str; 4] = ["json", "msgpack", "bincode", "yaml"];

#[derive(Debug, Serialize, Deserialize)]
enum Endless {
    More(Box<Self>),
    #[serde(rename = "n")]
    Done,
}

#[cfg(feature = "bincode")]
mod bincode {
    use std::time::{Duration, Instant};

    use celeriac_serializer::{Bincode, Serializer as _};

    use super::*;

    #[test]
    fn a_huge_claimed_text_is_refused() {
        let bomb = [0, 253, 255, 255, 255, 255, 255, 255, 255, 127];
        assert_eq!(Bincode.from_bytes::<String>(&bomb).unwrap_err().kind(), ErrorKind::Malformed);
        assert_eq!(Bincode.from_bytes::<Vec<u64>>(&bomb).unwrap_err().kind(), ErrorKind::Malformed);
        let small = [0, 252, 0, 0, 0, 64];
        assert!(Bincode.from_bytes::<Vec<u8>>(&small).is_err());
    }

    #[test]
    fn a_huge_claimed_list_of_nothing_is_refused_at_once() {
        let start = Instant::now();
        let bomb = [0, 253, 255, 255, 255, 255, 255, 255, 255, 127];
        assert!(Bincode.from_bytes::<Vec<()>>(&bomb).is_err());
        assert!(start.elapsed() < Duration::from_secs(1));
        assert_eq!(Bincode.from_bytes::<Vec<()>>(&[0, 3]).unwrap().len(), 3);
    }

    #[test]
    fn long_lists_of_small_things_are_read() {
        let lists = vec![Vec::<u8>::new(); 100_000];
        let data = Bincode.to_bytes(&lists).unwrap();
        assert_eq!(Bincode.from_bytes::<Vec<Vec<u8>>>(&data).unwrap(), lists);
        let wide = vec![0_u128; 100_000];
        assert_eq!(Bincode.from_bytes::<Vec<u128>>(&Bincode.to_bytes(&wide).unwrap()).unwrap(), wide);
    }

    #[test]
    fn a_type_within_itself_nests_only_so_deep() {
        assert!(Bincode.from_bytes::<Endless>(&[0; 1_000_000]).unwrap_err().to_string().contains("deep"));
        assert!(Bincode.from_bytes::<Endless>(&[0, 0, 0, 1]).is_ok());
    }

    #[test]
    fn bytes_after_the_value_are_refused() {
        let mut data = Bincode.to_bytes(&7_u32).unwrap();
        data.push(0);
        assert_eq!(Bincode.from_bytes::<u32>(&data).unwrap_err().kind(), ErrorKind::Malformed);
    }

    #[test]
    fn containers_within_containers_nest_only_so_deep() {
        let mut data = vec![1, 0xc0];
        for _ in 0..2000 {
            let mut out = Vec::new();
            Bincode.join_list(&[&data], &mut out).unwrap();
            data = out;
        }
        assert!(Bincode.decode_value(&data).is_err());
        assert!(Bincode.from_bytes::<Value>(&data).is_err());
        assert_eq!(Bincode.split_list(&data).unwrap().len(), 1);
    }

    #[test]
    fn a_typed_value_without_its_type_is_unsupported() {
        let data = Bincode.to_bytes("x").unwrap();
        assert_eq!(Bincode.decode_value(&data).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(Bincode.split_list(&data).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn deep_nesting_is_an_error_in_every_format() {
    let formats = Serializers::new();
    let deep: [(&str, Vec<u8>); 6] = [
        ("json", b"[".repeat(100_000)),
        ("json", [b"[".repeat(200_000), b"]".repeat(200_000)].concat()),
        ("msgpack", [vec![0x91; 200_000], vec![0xc0]].concat()),
        ("msgpack", [b"\x81\xa8__type__".repeat(20_000), vec![0xc0]].concat()),
        ("bincode", [vec![1], vec![0x91; 200_000], vec![0xc0]].concat()),
        ("yaml", [b"[".repeat(5_000), b"]".repeat(5_000)].concat()),
    ];
    for (name, data) in deep {
        let Ok(format) = formats.by_name(name) else { continue };
        assert!(format.decode_value(&data).is_err(), "{name}");
        assert!(format.from_bytes::<Endless>(&data).is_err(), "{name}");
        let _ = (format.split_list(&data), format.split_map(&data));
    }
}

#[test]
fn the_deepest_value_allowed_survives() {
    let formats = Serializers::new();
    for name in FORMATS {
        let Ok(format) = formats.by_name(name) else { continue };
        // Each level counts twice in serde_yaml_ng.
        let depth = if name == "yaml" { 60 } else { 126 };
        let value = (0..depth).fold(Value::from(1), |value, _| Value::List(vec![value]));
        let mut data = Vec::new();
        format.encode_value(&value, &mut data).unwrap();
        assert_eq!(format.decode_value(&data).unwrap(), value, "{name}");
    }
}

#[test]
fn a_yaml_that_would_take_minutes_is_refused_before_it_is_parsed() {
    let Ok(yaml) = Serializers::new().by_name("yaml").cloned() else { return };
    for start in [b"\xff\xfe", b"\xfe\xff"] {
        let data = [start, "[\u{5d5d}".repeat(1 << 20).as_bytes()].concat();
        assert_eq!(yaml.decode_value(&data).unwrap_err().message(), "yaml: not UTF-8");
    }
    for text in ["[{\"\":", "[", "[\"]]\",", "? [", "# \"\n[{'':", "[# \"\n", "[!a'", "[&a '',"] {
        let data = text.repeat(1 << 20);
        for error in [
            yaml.decode_value(data.as_bytes()).unwrap_err(),
            yaml.from_bytes::<Endless>(data.as_bytes()).unwrap_err(),
            yaml.split_list(data.as_bytes()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Malformed);
            assert!(error.message().contains("brackets may be open at once"), "{text}: {error}");
        }
    }
}

#[test]
fn a_large_yaml_with_many_brackets_is_read() {
    let Ok(yaml) = Serializers::new().by_name("yaml").cloned() else { return };
    let item = Value::List(vec![Value::from("{\"a\": [[[ it's # x"), Value::from(-1.5), Value::List(Vec::new())]);
    let value = Value::List(vec![item; 5_000]);
    let mut data = Vec::new();
    yaml.encode_value(&value, &mut data).unwrap();
    assert_eq!(yaml.decode_value(&data).unwrap(), value);
    // As Python dumps it.
    let text = "- - '{\"a\": [[[ it''s # x'\n  - -1.5\n  - []\n".repeat(500);
    assert_eq!(yaml.decode_value(text.as_bytes()).unwrap(), Value::List(value.as_list().unwrap()[..500].to_vec()));
}

#[test]
fn a_yaml_of_aliases_is_refused() {
    let Ok(yaml) = Serializers::new().by_name("yaml").cloned() else { return };
    let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let before = vec![format!("*a{}", level - 1); 10].join(",");
        text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    assert!(yaml.decode_value(text.as_bytes()).is_err());
}

#[test]
fn bytes_after_the_value_are_refused_by_every_format() {
    let formats = Serializers::new();
    for name in FORMATS {
        let Ok(format) = formats.by_name(name) else { continue };
        let mut list = Vec::new();
        let mut one = Vec::new();
        format.encode_value(&Value::from(1), &mut one).unwrap();
        format.join_list(&[&one], &mut list).unwrap();
        list.extend_from_slice(b" 1");
        assert!(format.from_bytes::<Vec<u8>>(&list).is_err(), "{name}");
        assert!(format.decode_value(&list).is_err(), "{name}");
        assert!(format.split_list(&list).is_err(), "{name}");
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    for compression in Compression::ALL.into_iter().filter(|compression| compression.is_available()) {
        let bomb = compression.compress(&vec![0; 4 << 20]).unwrap();
        let error = compression.decompress(&bomb, 1 << 20).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert_eq!(compression.decompress(&bomb, 4 << 20).unwrap().len(), 4 << 20);
        assert_eq!(compression.decompress(&bomb, (4 << 20) - 1).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}

#[test]
fn a_truncated_or_extended_stream_is_malformed() {
    let body: Vec<u8> = (0..2000_u32).flat_map(|number| (number * number).to_le_bytes()).collect();
    for compression in Compression::ALL.into_iter().filter(|compression| compression.is_available()) {
        let whole = compression.compress(&body).unwrap();
        for length in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
            let error = compression.decompress(&whole[..length], 1 << 20).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{compression:?} {length}/{}", whole.len());
        }
        let more = [&whole[..], b"xyz"].concat();
        let kind = compression.decompress(&more, 1 << 20).map(|out| out.len()).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::Malformed), "{compression:?}");
        assert_eq!(compression.decompress(b"garbage", 1 << 20).unwrap_err().kind(), ErrorKind::Malformed);
        assert!(compression.decompress(&compression.compress(b"").unwrap(), 0).unwrap().is_empty());
    }
}

#[test]
fn a_codec_that_is_not_compiled_in_names_its_feature() {
    for compression in Compression::ALL.into_iter().filter(|compression| !compression.is_available()) {
        let error = compression.decompress(b"", 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains(compression.feature()), "{error}");
    }
}
