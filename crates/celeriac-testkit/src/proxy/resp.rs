//! Redis's protocol: where a command or a reply ends, and what it is called.

/// How far the frame that is to be found has been looked at.
#[derive(Debug)]
pub(super) struct Splitter {
    at: usize,
    /// How many bytes of a text are still to be passed over.
    skip: usize,
    /// How many values the frame still lacks, at all depths together.
    missing: u64,
}

impl Splitter {
    pub(super) const fn new() -> Self {
        Self { at: 0, skip: 0, missing: 1 }
    }

    /// Where the frame ends that begins `bytes`, which are those of the call before and more until it returns something.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        while self.missing > 0 {
            self.step(bytes)?;
        }
        Some(std::mem::replace(self, Self::new()).at)
    }

    /// Passes over one text or one line; `None` if it has not come yet.
    fn step(&mut self, bytes: &[u8]) -> Option<()> {
        if self.skip > 0 {
            let step = self.skip.min(bytes.len() - self.at);
            self.at += step;
            self.skip -= step;
            if self.skip > 0 {
                return None;
            }
            self.missing -= 1;
            return Some(());
        }
        let length = bytes[self.at..].iter().position(|byte| *byte == b'\n')?;
        let line = &bytes[self.at..self.at + length];
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
    use super::super::frames::{Protocol, split};
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
            let (found, rest) = split(Protocol::Resp, stream.as_bytes(), piece);
            let found: Vec<&str> = found.iter().map(|frame| std::str::from_utf8(frame).unwrap()).collect();
            assert_eq!((found.as_slice(), rest), (WHOLE, vec![]), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_frame_that_is_not_whole_is_kept() {
        let half = b"*1\r\n$4\r\nPI";
        assert_eq!(split(Protocol::Resp, half, 1), (vec![], half.to_vec()));
    }

    #[test]
    fn names_are_read_from_commands_and_from_what_is_pushed() {
        assert_eq!(name(b"*2\r\n$3\r\nget\r\n$1\r\na\r\n"), "GET");
        assert_eq!(name(b">1\r\n$9\r\nsubscribe\r\n"), "SUBSCRIBE");
        assert_eq!(name(b"ping now\r\n"), "PING");
        assert_eq!(name(b"*0\r\n"), "");
    }
}
