//! Errors that the engine itself writes into a job's history.
//!
//! The same `MessagePack` map that the Python layer stores (version 1); since its shape is fixed, it
//! is encoded by hand.

use crate::model::{Bytes, ErrorKind};

/// What a stored error says.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredError<'a> {
    /// The name of the exception class.
    pub(super) class: &'a str,
    /// Where that class lives.
    pub(super) module: &'a str,
    pub(super) message: &'a str,
    pub(super) kind: ErrorKind,
}

impl StoredError<'_> {
    /// The bytes to store.
    pub(super) fn encode(&self) -> Bytes {
        let mut output = Vec::with_capacity(128 + self.message.len());
        output.push(0x88); // a map of eight entries
        text(&mut output, "version");
        output.push(1);
        for (key, value) in [
            ("type", self.class),
            ("module", self.module),
            ("message", self.message),
            ("traceback", ""),
        ] {
            text(&mut output, key);
            text(&mut output, value);
        }
        text(&mut output, "cause");
        output.push(0xC0); // nil
        text(&mut output, "notes");
        output.push(0x90); // an empty array
        text(&mut output, "kind");
        text(&mut output, kind_name(self.kind));
        output.into()
    }
}

/// The error of an attempt that ran longer than allowed.
pub(super) fn timeout(limit_ms: i64) -> Bytes {
    let message = format!("attempt ran longer than {limit_ms} ms");
    let (class, module, kind) = ("TimeoutError", "builtins", ErrorKind::Timeout);
    StoredError {
        class,
        module,
        message: &message,
        kind,
    }
    .encode()
}

/// The error of an attempt whose executor thread went away without a report.
pub(super) fn executor_ended() -> Bytes {
    let message = "executor thread ended before it reported how the attempt ended";
    let (class, module, kind) = ("WorkerError", "taskito.exceptions", ErrorKind::Failure);
    StoredError {
        class,
        module,
        message,
        kind,
    }
    .encode()
}

const fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Failure => "failure",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Crash => "crash",
        ErrorKind::Rejected => "rejected",
        ErrorKind::Interrupted => "interrupted",
    }
}

/// Append a string in the shortest form that holds its length.
fn text(output: &mut Vec<u8>, value: &str) {
    let length = value.len();
    if let Ok(short) = u8::try_from(length) {
        if short < 32 {
            output.push(0xA0 | short);
        } else {
            output.extend([0xD9, short]);
        }
    } else if let Ok(medium) = u16::try_from(length) {
        output.push(0xDA);
        output.extend(medium.to_be_bytes());
    } else {
        let cut = boundary(value, usize::from(u16::MAX));
        return text(output, &value[..cut]);
    }
    output.extend(value.as_bytes());
}

/// The largest character boundary at or below `position`.
fn boundary(value: &str, position: usize) -> usize {
    (0..=position)
        .rev()
        .find(|index| value.is_char_boundary(*index))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_the_documented_map() {
        let bytes = timeout(50);
        let mut expected = vec![0x88];
        expected.extend(b"\xA7version\x01\xA4type\xACTimeoutError\xA6module\xA8builtins");
        expected.extend(b"\xA7message\xBDattempt ran longer than 50 ms");
        expected.extend(b"\xA9traceback\xA0\xA5cause\xC0\xA5notes\x90\xA4kind\xA7timeout");
        assert_eq!(&bytes[..], &expected[..]);
    }

    #[test]
    fn long_messages_use_the_longer_heads() {
        for (length, head) in [
            (31, vec![0xBF]),
            (32, vec![0xD9, 32]),
            (255, vec![0xD9, 255]),
            (256, vec![0xDA, 1, 0]),
        ] {
            let mut output = Vec::new();
            text(&mut output, &"x".repeat(length));
            assert_eq!(output[..head.len()], head);
            assert_eq!(output.len(), head.len() + length);
        }
    }

    #[test]
    fn a_message_beyond_64_kib_is_cut_between_characters() {
        let mut output = Vec::new();
        text(&mut output, &"é".repeat(40_000));
        assert_eq!(output.len(), 3 + 65_534);
    }
}
