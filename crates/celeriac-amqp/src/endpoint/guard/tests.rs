//! Tests of what is let through to the driver.

use lapin::BasicProperties;
use lapin::protocol::basic::parse_properties;
use lapin::types::AMQPValue;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::captured;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, 1][..], &length, payload, &[0xce]].concat()
}

/// What of `bytes` is passed on, if they come and are asked for in pieces of these lengths.
fn passed(bytes: &[u8], pieces: &[usize]) -> Vec<u8> {
    let (mut guard, mut passed) = (Guard::default(), Vec::new());
    let mut lengths = pieces.iter().copied().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(lengths.next().unwrap().min(rest.len()));
        guard.room()[..piece.len()].copy_from_slice(piece);
        guard.came(piece.len()).unwrap();
        rest = after;
        loop {
            let mut out = vec![0; lengths.next().unwrap()];
            match guard.take(&mut out) {
                0 => break,
                count => passed.extend_from_slice(&out[..count]),
            }
        }
    }
    passed
}

fn driver_reads(payload: &[u8]) -> BasicProperties {
    let (rest, properties) = parse_properties(&payload[12..]).unwrap();
    assert!(rest.is_empty());
    properties
}

/// A content header: a content type, headers, a priority and a correlation id.
fn payload(content_type: &[u8], headers: &[u8], correlation_id: &[u8]) -> Vec<u8> {
    let short = |text: &[u8]| [&[u8::try_from(text.len()).unwrap()], text].concat();
    let headers = [&u32::try_from(headers.len()).unwrap().to_be_bytes(), headers].concat();
    let flags = 0x8000_u16 | 0x2000 | 0x0800 | 0x0400;
    let fixed = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    [&fixed[..], &flags.to_be_bytes(), &short(content_type), &headers, &[5], &short(correlation_id)].concat()
}

fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[u8::try_from(name.len()).unwrap()], name, value].concat()
}

fn nested(depth: usize, kind: u8) -> Vec<u8> {
    (0..depth).fold(b"V".to_vec(), |inner, _| {
        let inner = if kind == b'F' { field(b"f", &inner) } else { inner };
        [&[kind][..], &u32::try_from(inner.len()).unwrap().to_be_bytes(), &inner].concat()
    })
}

#[test]
fn what_is_well_passes_unchanged_in_whatever_pieces_it_comes() {
    let mut stream = Vec::new();
    for captured in captured() {
        stream.extend(frame(METHOD, b"delivered"));
        stream.extend(frame(CONTENT_HEADER, &captured.raw));
        stream.extend(frame(3, &captured.body));
        stream.extend(frame(8, b""));
    }
    for pieces in [&[1][..], &[7], &[3, 1000], &[64 * 1024], &[1, 200, 8, 4096]] {
        assert!(passed(&stream, pieces) == stream, "{pieces:?}");
    }
}

#[test]
fn headers_that_would_overflow_the_drivers_stack_are_left_out() {
    for kind in [b'A', b'F'] {
        // The driver reads in a thread with as much room as this one.
        let deepest = payload(b"a/b", &field(b"deep", &nested(128, kind)), b"c");
        assert_eq!(cleaned(&deepest), None);
        driver_reads(&deepest);
        for depth in [129, 10_000] {
            let headers = [field(b"task", b"S\0\0\0\x01t"), field(b"deep", &nested(depth, kind)), field(b"id", b"V")];
            let clean = cleaned(&payload(b"a/b", &headers.concat(), b"c")).unwrap();
            let came = driver_reads(&clean);
            let names: Vec<&str> =
                came.headers().as_ref().unwrap().into_iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["id", "task"]);
            assert_eq!(came.priority(), &Some(5));
            assert_eq!(clean[..12], payload(b"", b"", b"")[..12]);
        }
    }
}

#[test]
fn texts_that_are_no_text_are_left_out() {
    let headers = [field(b"\xff", b"t\x01"), field(b"ok", b"S\0\0\0\x01\xff"), field(b"in", b"F\0\0\0\x03\x01\xffV")];
    let came = driver_reads(&cleaned(&payload(b"\xff", &headers.concat(), b"\xed\xa0\x80")).unwrap());
    assert_eq!((came.content_type(), came.correlation_id(), came.priority()), (&None, &None, &Some(5)));
    let headers = came.headers().as_ref().unwrap();
    // The value of a header may be any bytes.
    assert_eq!(headers.inner()["ok"], AMQPValue::LongString(vec![0xff].into()));
    assert_eq!(headers.inner().len(), 1);
}

#[test]
fn what_follows_a_field_of_no_known_type_is_left_out() {
    let headers = [field(b"a", b"t\x01"), field(b"b", b"?what"), field(b"c", b"V")].concat();
    let came = driver_reads(&cleaned(&payload(b"a/b", &headers, b"c")).unwrap());
    assert_eq!(came.headers().as_ref().unwrap().inner().len(), 1);
    assert_eq!(came.correlation_id().as_ref().unwrap().as_str(), "c");
    // Within a list its end is known.
    let headers = [field(b"a", b"A\0\0\0\x02?!"), field(b"c", b"V")].concat();
    let came = driver_reads(&cleaned(&payload(b"a/b", &headers, b"c")).unwrap());
    assert_eq!(came.headers().as_ref().unwrap().inner().len(), 1);
}

#[test]
fn a_message_that_is_cleaned_leaves_its_neighbours_alone() {
    let bad = payload(b"\xff", &field(b"deep", &nested(3000, b'A')), b"c");
    let good = payload(b"a/b", &field(b"a", b"V"), b"c");
    let stream = [frame(METHOD, b"1"), frame(CONTENT_HEADER, &bad), frame(CONTENT_HEADER, &good), frame(3, b"body")];
    let clean = frame(CONTENT_HEADER, &cleaned(&bad).unwrap());
    let expected = [&stream[0], &clean, &stream[2], &stream[3]].map(Vec::as_slice).concat();
    for pieces in [&[1][..], &[5, 300], &[64 * 1024]] {
        assert!(passed(&stream.concat(), pieces) == expected, "{pieces:?}");
    }
}

/// A method of that class and number, with these arguments.
fn method(class: u8, number: u8, arguments: &[&[u8]]) -> Vec<u8> {
    frame(METHOD, &[&[0, class, 0, number], &*arguments.concat()].concat())
}

#[test]
fn names_that_are_no_text_are_replaced_by_text_of_the_same_length() {
    let short = |text: &[u8]| [&[u8::try_from(text.len()).unwrap()], text].concat();
    let [tag, bad, shown] = [&b"t"[..], b"\xffk\xed\xa0\x80\xc3\xa4\xc3", "?k???ä?".as_bytes()].map(short);
    let said = |text: &[u8]| {
        let deliver = method(60, 60, &[&tag, &[0xff; 9], text, text]);
        let got = method(60, 71, &[&[0xff; 9], text, text, &[0xff; 4]]);
        let returned = method(60, 50, &[&[0xff; 2], &tag, text, text]);
        let closed = [(10, 50), (20, 40)].map(|(class, number)| method(class, number, &[&[0xff; 2], text, &[0xff; 4]]));
        [deliver, got, returned, closed.concat()].concat()
    };
    for pieces in [&[1][..], &[5, 300], &[64 * 1024]] {
        assert!(passed(&said(&bad), pieces) == said(&shown), "{pieces:?}");
        assert!(passed(&said(&shown), pieces) == said(&shown), "{pieces:?}");
    }
}

#[test]
fn other_methods_and_those_that_end_too_early_pass_unchanged() {
    let frames = [
        method(60, 60, &[]),
        method(60, 60, &[b"\x05\xff"]),
        method(60, 71, &[&[0xff; 9], b"\x09\xff"]),
        method(50, 11, &[b"\x01\xff"]),
        frame(METHOD, b"\0\x3c"),
        frame(METHOD, b""),
    ];
    for frame in frames {
        assert!(passed(&frame, &[3]) == frame, "{frame:?}");
    }
}

#[test]
fn a_stranger_is_known_by_its_first_byte() {
    let meet = |bytes: &[u8]| {
        let mut guard = Guard::default();
        guard.room()[..bytes.len()].copy_from_slice(bytes);
        guard.came(bytes.len()).map_err(|error| error.get_ref().and_then(|inner| inner.downcast_ref().copied()))
    };
    assert_eq!(meet(b"HTTP/1.1 400 Bad Request"), Err(Some(Stranger::Other)));
    assert_eq!(meet(b"\x15\x03\x03\0\x02\x02\x46"), Err(Some(Stranger::Tls)));
    assert_eq!(meet(b"AMQP\x03\x01\0\0"), Ok(()));
    assert_eq!(meet(b"\x01"), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_the_driver_can_read_what_is_left(
        flags in any::<u16>(),
        bytes in vec(prop_oneof![Just(0_u8), Just(1), Just(b'A'), Just(b'F'), Just(b'S'), Just(b'V'), any::<u8>()], 0..200),
    ) {
        let payload = [&[0; 12][..], &flags.to_be_bytes(), &bytes].concat();
        match cleaned(&payload) {
            None => drop(driver_reads(&payload)),
            Some(clean) => {
                driver_reads(&clean);
                prop_assert_eq!(cleaned(&clean), None);
            }
        }
    }

    #[test]
    fn any_bytes_in_any_pieces_do_no_harm(bytes in vec(any::<u8>(), 0..400), pieces in vec(1..99_usize, 1..5)) {
        let mut guard = Guard { met: true, ..Guard::default() };
        for piece in bytes.chunks(pieces[0]) {
            guard.room()[..piece.len()].copy_from_slice(piece);
            guard.came(piece.len()).unwrap();
            while guard.take(&mut [0; 50]) > 0 {}
        }
    }
}
