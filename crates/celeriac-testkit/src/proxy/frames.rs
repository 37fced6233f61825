//! `Frames`: where a command or a reply ends in a stream of bytes.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Redis's, of version 2 or 3.
    Resp,
    /// Unknown: what is read at once belongs together.
    Opaque,
}

/// Cuts a stream into whole commands, or whole replies.
#[derive(Debug)]
pub(super) struct Frames {
    protocol: Protocol,
    bytes: Vec<u8>,
    /// How far the frame that begins the bytes has been looked at.
    at: usize,
    /// How many bytes of a text are still to be passed over.
    skip: usize,
    /// How many values the frame still lacks, at all depths together.
    missing: u64,
}

impl Frames {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self { protocol, bytes: Vec::new(), at: 0, skip: 0, missing: 1 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        match self.protocol {
            Protocol::Opaque => Some(self.rest()).filter(|bytes| !bytes.is_empty()),
            Protocol::Resp => {
                while self.missing > 0 {
                    self.step()?;
                }
                let behind = self.bytes.split_off(self.at);
                (self.at, self.missing) = (0, 1);
                Some(std::mem::replace(&mut self.bytes, behind))
            }
        }
    }

    /// What has come of a frame that is not whole.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Passes over one text or one line; `None` if it has not come yet.
    fn step(&mut self) -> Option<()> {
        if self.skip > 0 {
            let step = self.skip.min(self.bytes.len() - self.at);
            self.at += step;
            self.skip -= step;
            if self.skip > 0 {
                return None;
            }
            self.missing -= 1;
            return Some(());
        }
        let length = self.bytes[self.at..].iter().position(|byte| *byte == b'\n')?;
        let line = &self.bytes[self.at..self.at + length];
        // A negative number stands for a value that is not there.
        let number = line.get(1..).and_then(|digits| std::str::from_utf8(digits).ok()?.trim_end().parse::<u32>().ok());
        let values = u64::from(number.unwrap_or(0));
        match (line.first(), number) {
            (Some(b'$' | b'!' | b'='), Some(length)) => self.skip = length as usize + "\r\n".len(),
            (Some(b'*' | b'~' | b'>'), _) => self.missing = self.missing - 1 + values,
            (Some(b'%'), _) => self.missing = self.missing - 1 + 2 * values,
            // Attributes stand before the value that is meant.
            (Some(b'|'), _) => self.missing += 2 * values,
            _ => self.missing -= 1,
        }
        self.at += length + 1;
        Some(())
    }
}

/// The name of a command, or of what is pushed, in upper case.
pub(super) fn name(frame: &[u8]) -> String {
    let mut lines = frame.split(|byte| *byte == b'\n');
    let word = match frame.first() {
        Some(b'*' | b'>') => lines.nth(2),
        // As people type it.
        _ => lines.next().and_then(|line| line.split(|byte| *byte == b' ').next()),
    };
    String::from_utf8_lossy(word.unwrap_or_default()).trim().to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[&str] = &[
        "*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n",
        "PING now\r\n",
        "+OK\r\n",
        "-ERR no\r\n",
        "$-1\r\n",
        "$0\r\n\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n*2\r\n:1\r\n*0\r\n$1\r\n*\r\n",
        "%1\r\n+key\r\n~2\r\n#t\r\n_\r\n",
        ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n\r\n\r\n",
        "|1\r\n+ttl\r\n:3\r\n*1\r\n,1.5\r\n",
        "=7\r\ntxt:abc\r\n",
    ];

    #[test]
    fn frames_are_found_however_the_stream_is_cut() {
        let stream = WHOLE.concat();
        for piece in [1, 2, 3, 7, stream.len()] {
            let mut frames = Frames::new(Protocol::Resp);
            let mut found = Vec::new();
            for bytes in stream.as_bytes().chunks(piece) {
                frames.push(bytes);
                while let Some(frame) = frames.next() {
                    found.push(String::from_utf8(frame).unwrap());
                }
            }
            assert_eq!(found, WHOLE, "in pieces of {piece}");
            assert_eq!(frames.rest(), b"");
        }
    }

    #[test]
    fn a_frame_that_is_not_whole_is_kept() {
        let mut frames = Frames::new(Protocol::Resp);
        frames.push(b"*1\r\n$4\r\nPI");
        assert_eq!(frames.next(), None);
        assert_eq!(frames.rest(), b"*1\r\n$4\r\nPI");
    }

    #[test]
    fn names_are_read_from_commands_and_from_what_is_pushed() {
        assert_eq!(name(b"*2\r\n$3\r\nget\r\n$1\r\na\r\n"), "GET");
        assert_eq!(name(b">1\r\n$9\r\nsubscribe\r\n"), "SUBSCRIBE");
        assert_eq!(name(b"ping now\r\n"), "PING");
        assert_eq!(name(b"*0\r\n"), "");
    }
}
