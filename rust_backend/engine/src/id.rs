//! Job ids: UUIDv7 (RFC 9562, section 5.7) that carry the row number of the job.
//!
//! Layout, most significant bit first: 48 bits of Unix milliseconds, the version (4 bits, 7), the
//! upper 12 bits of the row number, the variant (2 bits, binary 10), its lower 28 bits, and 34
//! random bits. So an id sorts by time, and a look-up needs no index: it decodes the row number,
//! reads the row, and compares all 16 bytes.

use std::fmt;

/// The largest row number that an id can carry.
pub const MAX_SEQUENCE: i64 = (1 << 40) - 1;

/// The identity of a job.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub [u8; 16]);

impl JobId {
    /// The id of the job in row `sequence`, created at `wall_ms`; the last 34 bits come from `random`.
    #[must_use]
    pub fn new(wall_ms: i64, sequence: i64, random: u64) -> Self {
        let time = wall_ms.cast_unsigned() & 0xFFFF_FFFF_FFFF;
        let sequence = sequence.cast_unsigned() & 0xFF_FFFF_FFFF;
        let high = (time << 16) | 0x7000 | (sequence >> 28);
        let low = (0b10 << 62) | ((sequence & 0xFFF_FFFF) << 34) | (random & 0x3_FFFF_FFFF);
        Self(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
    }

    /// The row number that an id made by [`JobId::new`] carries; meaningless for any other id.
    #[must_use]
    pub fn sequence(self) -> i64 {
        let value = u128::from_be_bytes(self.0);
        let upper = ((value >> 64) & 0xFFF) as u64;
        let lower = ((value >> 34) & 0xFFF_FFFF) as u64;
        ((upper << 28) | lower).cast_signed()
    }

    /// Read the 36-character form, or 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        if digits.len() != 32 || (text.len() != 32 && text.len() != 36) {
            return None;
        }
        let mut bytes = [0_u8; 16];
        for (index, pair) in digits.chunks_exact(2).enumerate() {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            bytes[index] = u8::try_from(high * 16 + low).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut position = 0;
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                position += 1;
            }
            text[position] = DIGITS[usize::from(byte >> 4)];
            text[position + 1] = DIGITS[usize::from(byte & 15)];
            position += 2;
        }
        formatter.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
