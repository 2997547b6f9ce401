//! The identity of this boot, the clocks of the machine, and the end of this process.
#![expect(unsafe_code, reason = "the boot clock has no safe interface")]

use std::fs;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

/// The id of this boot of the machine: the same for all processes, another after a restart.
///
/// # Errors
///
/// When `/proc` is not there or does not say.
pub fn boot_id() -> io::Result<[u8; 16]> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(PATH)?;
    parse_boot_id(text.trim()).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{PATH} says {text:?}, which is not a UUID"),
        )
    })
}

/// Ends this process as SIGKILL from outside does: no handler, no destructor, nothing flushed.
#[cfg(feature = "failpoints")]
pub(crate) fn kill_this_process() -> ! {
    loop {
        // SAFETY: a plain system call, which does not return.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

fn parse_boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|character| *character != '-')
        .map(|character| {
            character
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |sum, digit| sum << 4 | digit))
        .collect();
    (digits.len() == 32)
        .then(|| bytes.try_into().ok())
        .flatten()
}

/// Milliseconds since the machine was booted, time asleep included. Nobody can set this clock.
#[must_use]
pub fn boottime_ms() -> i64 {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut now: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the structure outlives the call. The clock exists since Linux 2.6.39, so the call
    // cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

/// Milliseconds since 1970 by the wall clock, which an administrator may set.
#[must_use]
pub fn wall_ms() -> i64 {
    let milliseconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()),
        Err(before) => i64::try_from(before.duration().as_millis()).map(|past| -past),
    };
    milliseconds.unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_is_what_the_kernel_says() {
        let id = boot_id().expect("boot id");
        assert_ne!(id, [0; 16]);
        assert_eq!(id, boot_id().expect("boot id"));
    }

    #[test]
    fn a_boot_id_is_32_digits() {
        let parsed = parse_boot_id("00112233-4455-6677-8899-aabbccddeeff").expect("a UUID");
        assert_eq!(parsed[..3], [0x00, 0x11, 0x22]);
        assert_eq!(parsed[15], 0xff);
        assert_eq!(parse_boot_id("0011"), None);
        assert_eq!(parse_boot_id("z0112233-4455-6677-8899-aabbccddeeff"), None);
        assert_eq!(parse_boot_id("00112233-4455-6677-8899-aabbccddeeff0"), None);
    }

    #[test]
    fn the_clocks_go_forward() {
        let before = boottime_ms();
        assert!(before > 0);
        assert!(boottime_ms() >= before);
        assert!(wall_ms() > 1_600_000_000_000);
    }
}
