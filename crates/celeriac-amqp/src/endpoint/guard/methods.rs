//! Which texts of a method the driver can read.

/// What a method's arguments are, as far as the last text that others than we and the server choose.
#[derive(Clone, Copy)]
enum Kind {
    Bytes(usize),
    /// Its length in one byte, then UTF-8.
    Text,
}

/// Replaces what is no UTF-8 in the texts of a method, so that each stays as long as it was. Tells whether there was any.
///
/// Exchanges and routing keys may be any bytes. And the server cuts off its reasons for closing at 255 bytes, wherever that is within a character.
pub(super) fn mend(payload: &mut [u8]) -> bool {
    use Kind::{Bytes, Text};
    let Some((&mut [_, class, _, method], mut rest)) = payload.split_first_chunk_mut() else { return false };
    let arguments: &[Kind] = match (class, method) {
        // `basic.deliver`, `basic.get-ok`, `basic.return`.
        (60, 60) => &[Text, Bytes(9), Text, Text],
        (60, 71) => &[Bytes(9), Text, Text],
        (60, 50) => &[Bytes(2), Text, Text, Text],
        // `connection.close`, `channel.close`.
        (10, 50) | (20, 40) => &[Bytes(2), Text],
        _ => return false,
    };
    let mut mended = false;
    for argument in arguments {
        let (length, is_text) = match argument {
            Bytes(count) => (*count, false),
            Text => match rest.split_first_mut() {
                Some((length, after)) => {
                    rest = after;
                    (usize::from(*length), true)
                }
                None => return mended,
            },
        };
        let Some((value, after)) = rest.split_at_mut_checked(length) else { return mended };
        mended |= is_text && replaced(value);
        rest = after;
    }
    mended
}

fn replaced(text: &mut [u8]) -> bool {
    let (mut from, mut found) = (0, false);
    while let Err(error) = std::str::from_utf8(&text[from..]) {
        let bad = from + error.valid_up_to();
        from = error.error_len().map_or(text.len(), |length| bad + length);
        text[bad..from].fill(b'?');
        found = true;
    }
    found
}
