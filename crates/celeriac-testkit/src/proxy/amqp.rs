//! AMQP 0-9-1: where a frame ends, and what it is called.

/// `AMQP` and the version, with which a client begins, and with which a server answers a version that it does not speak.
const PROTOCOL_HEADER: usize = 8;

/// Type, channel and size.
const HEAD: usize = 7;

/// What ends a frame.
const END: u8 = 0xCE;

/// The largest payload that is believed. RabbitMQ's frames are 128 KiB unless it is told otherwise.
const LARGEST: usize = 64 << 20;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// Finds the ends of frames until it meets something that is none.
#[derive(Debug)]
pub(super) struct Splitter {
    /// What is read at once belongs together from now on.
    lost: bool,
}

impl Splitter {
    pub(super) const fn new() -> Self {
        Self { lost: false }
    }

    /// Where the frame ends that begins `bytes`, if it is whole.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        if !self.lost {
            let end = length(bytes)?;
            self.lost = !is_frame(bytes.get(..end)?);
            if !self.lost {
                return Some(end);
            }
        }
        Some(bytes.len())
    }
}

/// How long the frame is that begins `bytes`, 0 if none does; `None` if that has not come yet.
fn length(bytes: &[u8]) -> Option<usize> {
    Some(match bytes.first()? {
        b'A' => PROTOCOL_HEADER,
        &(METHOD | HEADER | BODY | HEARTBEAT) => {
            let size = bytes.get(HEAD - 4..HEAD)?;
            let size = size.iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
            if size > LARGEST { 0 } else { HEAD + size + 1 }
        }
        _ => 0,
    })
}

/// Whether these bytes are one frame.
fn is_frame(bytes: &[u8]) -> bool {
    let is_ended = bytes.starts_with(b"AMQP") || (!bytes.starts_with(b"A") && bytes.ends_with(&[END]));
    is_ended && length(bytes) == Some(bytes.len())
}

/// The name of a frame: `basic.publish` and the like, `header` and `body` of a message, `heartbeat`, and `protocol` with which a connection
/// begins. Empty for what is no frame.
pub(super) fn name(frame: &[u8]) -> String {
    if !is_frame(frame) {
        return String::new();
    }
    let name = match frame {
        [METHOD, _, _, _, _, _, _, class_high, class, method_high, method, _, ..] => {
            return method_name([*class_high, *class], [*method_high, *method]);
        }
        [HEADER, ..] => "header",
        [BODY, ..] => "body",
        [HEARTBEAT, ..] => "heartbeat",
        [b'A', ..] => "protocol",
        // A method without its number.
        _ => "",
    };
    name.to_owned()
}

fn method_name(class: [u8; 2], method: [u8; 2]) -> String {
    let (class, method) = (u16::from_be_bytes(class), u16::from_be_bytes(method));
    let named = METHODS.iter().find(|(id, ..)| *id == class);
    let name = named.and_then(|(_, class, methods)| {
        let (_, method) = methods.iter().find(|(id, _)| *id == method)?;
        Some(format!("{class}.{method}"))
    });
    // As the specification numbers it.
    name.unwrap_or_else(|| format!("{class}.{method}"))
}

type Methods = &'static [(u16, &'static str)];

/// The methods of AMQP 0-9-1 and of RabbitMQ's extensions to it, by class.
const METHODS: &[(u16, &str, Methods)] = &[
    (
        10,
        "connection",
        &[
            (10, "start"),
            (11, "start-ok"),
            (20, "secure"),
            (21, "secure-ok"),
            (30, "tune"),
            (31, "tune-ok"),
            (40, "open"),
            (41, "open-ok"),
            (50, "close"),
            (51, "close-ok"),
            (60, "blocked"),
            (61, "unblocked"),
            (70, "update-secret"),
            (71, "update-secret-ok"),
        ],
    ),
    (20, "channel", &[(10, "open"), (11, "open-ok"), (20, "flow"), (21, "flow-ok"), (40, "close"), (41, "close-ok")]),
    (
        40,
        "exchange",
        &[
            (10, "declare"),
            (11, "declare-ok"),
            (20, "delete"),
            (21, "delete-ok"),
            (30, "bind"),
            (31, "bind-ok"),
            (40, "unbind"),
            (51, "unbind-ok"),
        ],
    ),
    (
        50,
        "queue",
        &[
            (10, "declare"),
            (11, "declare-ok"),
            (20, "bind"),
            (21, "bind-ok"),
            (30, "purge"),
            (31, "purge-ok"),
            (40, "delete"),
            (41, "delete-ok"),
            (50, "unbind"),
            (51, "unbind-ok"),
        ],
    ),
    (
        60,
        "basic",
        &[
            (10, "qos"),
            (11, "qos-ok"),
            (20, "consume"),
            (21, "consume-ok"),
            (30, "cancel"),
            (31, "cancel-ok"),
            (40, "publish"),
            (50, "return"),
            (60, "deliver"),
            (70, "get"),
            (71, "get-ok"),
            (72, "get-empty"),
            (80, "ack"),
            (90, "reject"),
            (100, "recover-async"),
            (110, "recover"),
            (111, "recover-ok"),
            (120, "nack"),
        ],
    ),
    (85, "confirm", &[(10, "select"), (11, "select-ok")]),
    (
        90,
        "tx",
        &[(10, "select"), (11, "select-ok"), (20, "commit"), (21, "commit-ok"), (30, "rollback"), (31, "rollback-ok")],
    ),
];

#[cfg(test)]
mod tests {
    use super::super::frames::{Protocol, split};
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 1][..], &size, payload, &[END]].concat()
    }

    fn method(class: u8, method: u8) -> Vec<u8> {
        frame(METHOD, &[0, class, 0, method, 1, 2, 3])
    }

    fn whole() -> Vec<Vec<u8>> {
        // Bodies that hold what ends frames, and what begins them.
        let body = [END, END, METHOD, 0, 0, b'A', END].repeat(20);
        vec![
            b"AMQP\x00\x00\x09\x01".to_vec(),
            method(10, 11),
            method(60, 40),
            frame(HEADER, &[0, 60, 0, 0, END]),
            frame(BODY, &body),
            frame(BODY, b""),
            frame(HEARTBEAT, b""),
        ]
    }

    #[test]
    fn frames_are_found_however_the_stream_is_cut() {
        let stream = whole().concat();
        for piece in [1, 2, 3, 7, 8, stream.len()] {
            assert_eq!(split(Protocol::Amqp, &stream, piece), (whole(), vec![]), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_frame_that_is_not_whole_is_kept() {
        for frame in whole() {
            for length in 0..frame.len() {
                let half = &frame[..length];
                assert_eq!(split(Protocol::Amqp, half, 1), (vec![], half.to_vec()), "{half:?}");
            }
        }
    }

    #[test]
    fn what_is_no_frame_passes_as_it_comes() {
        let mut endless = method(60, 40);
        *endless.last_mut().unwrap() = 0;
        let oversized = [METHOD, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0, 60, 0, 40];
        for garbage in [b"HTTP/1.1 400 Bad Request\r\n\r\n", &endless[..], &oversized, b"\0\0\0", b"APPLE+++"] {
            let stream = [&method(10, 11)[..], garbage].concat();
            let found = vec![method(10, 11), garbage.to_vec()];
            assert_eq!(split(Protocol::Amqp, &stream, stream.len()), (found, vec![]));

            // What follows may look like a frame. It is none.
            let stream = [garbage, &method(60, 40)].concat();
            for piece in [1, 5, stream.len()] {
                let (found, rest) = split(Protocol::Amqp, &stream, piece);
                assert_eq!((found.concat(), rest), (stream.clone(), vec![]));
                assert!(found.iter().all(|frame| name(frame).is_empty()), "{found:?}");
            }
        }
    }

    #[test]
    fn frames_are_called_what_the_specification_calls_them() {
        let names: Vec<String> = whole().iter().map(|frame| name(frame)).collect();
        let known = ["protocol", "connection.start-ok", "basic.publish", "header", "body", "body", "heartbeat"];
        assert_eq!(names, known);
        assert_eq!(name(&method(60, 60)), "basic.deliver");
        assert_eq!(name(&method(50, 11)), "queue.declare-ok");
        assert_eq!(name(&method(99, 12)), "99.12");
        for garbage in [&b""[..], &[METHOD, 0, 1, 0, 0, 0, 0, END], b"HTTP"] {
            assert_eq!(name(garbage), "");
        }
    }
}
