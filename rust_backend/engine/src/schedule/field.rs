//! One field of a cron line.

/// What one position of a line may hold.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    low: u8,
    high: u8,
    /// Words for values, beginning with the one of `low`.
    words: &'static [&'static str],
}

pub(super) const SECOND: Kind = Kind::of_numbers("second", 0, 59);
pub(super) const MINUTE: Kind = Kind::of_numbers("minute", 0, 59);
pub(super) const HOUR: Kind = Kind::of_numbers("hour", 0, 23);
pub(super) const DAY_OF_MONTH: Kind = Kind::of_numbers("day of month", 1, 31);
pub(super) const MONTH: Kind = Kind {
    name: "month",
    low: 1,
    high: 12,
    words: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
/// 0 and 7 are Sunday.
pub(super) const DAY_OF_WEEK: Kind = Kind {
    name: "day of week",
    low: 0,
    high: 7,
    words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Kind {
    const fn of_numbers(name: &'static str, low: u8, high: u8) -> Self {
        Self {
            name,
            low,
            high,
            words: &[],
        }
    }

    /// The values that a text names, and whether it begins with a star.
    ///
    /// A field is a list of parts with commas between them. A part is `*`, a value or a range
    /// `a-b`, each of the first and the last also with `/step`; `a/step` goes on to the highest
    /// value.
    pub(super) fn read(&'static self, text: &str) -> Result<Field, String> {
        let mut values = 0;
        for part in text.split(',') {
            values |= self
                .read_part(part)
                .map_err(|problem| format!("{}: {text:?} {problem}", self.name))?;
        }
        Ok(Field {
            kind: self,
            values,
            starred: text.starts_with('*'),
        })
    }

    fn read_part(&self, part: &str) -> Result<u64, String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (first, last) = if range == "*" {
            (self.low, self.high)
        } else if let Some((first, last)) = range.split_once('-') {
            let (first, mut last) = (self.value(first)?, self.value(last)?);
            if last == 0 && first > 0 && range.ends_with(char::is_alphabetic) {
                // "fri-sun": as the end of a range, the word stands for the Sunday after it.
                last = self.high;
            }
            if first > last {
                return Err(format!(
                    "has the range {range:?}, which ends before it begins; write it as two ranges"
                ));
            }
            (first, last)
        } else {
            let first = self.value(range)?;
            (first, if step.is_some() { self.high } else { first })
        };
        let step = match step.map(number) {
            None => 1,
            Some(Some(step)) if step > 0 => usize::from(step),
            Some(_) => {
                return Err(format!(
                    "has a step in {part:?} that is no whole number above 0"
                ));
            }
        };
        Ok((first..=last)
            .step_by(step)
            .fold(0, |values, value| values | 1 << value))
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        let word = self
            .words
            .iter()
            .zip(self.low..)
            .find(|(word, _)| word.eq_ignore_ascii_case(text))
            .map(|(_, value)| value);
        let (low, high) = (self.low, self.high);
        word.or_else(|| number(text).filter(|value| (low..=high).contains(value)))
            .ok_or_else(|| {
                let words = match (self.words.first(), self.words.last()) {
                    (Some(first), Some(last)) => format!(", {first} to {last}"),
                    _ => String::new(),
                };
                format!("has {text:?}, which is not between {low} and {high}{words}")
            })
    }
}

/// Digits only: no sign, no blank.
fn number(text: &str) -> Option<u8> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// One field that was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    kind: &'static Kind,
    /// Bit n stands for the value n.
    values: u64,
    /// Its text begins with `*`. For Vixie's cron `*/2` is no restriction either.
    pub(super) starred: bool,
}

impl Field {
    /// The values in order, with commas between them.
    pub(super) fn list(self) -> String {
        let kind = self.kind;
        let values = (kind.low..=kind.high).filter(|value| self.values >> value & 1 == 1);
        values
            .map(|value| value.to_string())
            .collect::<Vec<_>>()
            .join(",")
    }

    /// The days of a week field as the `cron` crate counts them: from 1, which is Sunday.
    pub(super) fn list_of_weekdays(self) -> String {
        let is_named = |day: u8| {
            self.values >> day & 1 == 1 || (day == 0 && self.values >> DAY_OF_WEEK.high & 1 == 1)
        };
        let days = (0..7_u8).filter(|day| is_named(*day));
        days.map(|day| (day + 1).to_string())
            .collect::<Vec<_>>()
            .join(",")
    }
}
