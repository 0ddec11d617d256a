//! Keeping the numbers of a JSON text within what readers of JSON can hold.
//!
//! JSON sets no limit to a number, and neither does a schema that names none. But most readers refuse what is beyond
//! the range of a double, or take it for infinite, and a model that has lost its way writes digits without end.

/// More digits before the point are not written: with the greatest exponent it is still below 1.8e308.
const MOST_WHOLE_DIGITS: u32 = 200;
const MOST_EXPONENT_DIGITS: u32 = 2;

/// Where a JSON text has come to, as far as numbers are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum Place {
    #[default]
    Between,
    /// Within a string, after a backslash or not.
    Text {
        escaped: bool,
    },
    /// Within a number, after so many digits of this part.
    Whole(u32),
    Fraction,
    Exponent(u32),
}

impl Place {
    /// The place after some bytes, or `None` where a number in them is too long.
    pub(super) fn after(mut self, bytes: &[u8]) -> Option<Self> {
        for byte in bytes {
            self = match (self, byte) {
                (Self::Text { escaped: true }, _) => Self::Text { escaped: false },
                (Self::Text { .. }, b'\\') => Self::Text { escaped: true },
                (Self::Text { .. }, b'"') => Self::Between,
                (Self::Text { .. }, _) => self,
                (_, b'"') => Self::Text { escaped: false },
                (Self::Between, b'-' | b'0'..=b'9') => Self::Whole(u32::from(*byte != b'-')),
                (Self::Whole(digits), b'0'..=b'9') => Self::Whole(digits + 1),
                (Self::Whole(_), b'.') => Self::Fraction,
                (Self::Fraction, b'0'..=b'9') => Self::Fraction,
                (Self::Whole(_) | Self::Fraction, b'e' | b'E') => Self::Exponent(0),
                (Self::Exponent(0), b'+' | b'-') => Self::Exponent(0),
                (Self::Exponent(digits), b'0'..=b'9') => Self::Exponent(digits + 1),
                _ => Self::Between,
            };
            let is_too_long = match self {
                Self::Whole(digits) => digits > MOST_WHOLE_DIGITS,
                Self::Exponent(digits) => digits > MOST_EXPONENT_DIGITS,
                _ => false,
            };
            if is_too_long {
                return None;
            }
        }
        Some(self)
    }

    /// Whether a number may go on with what comes next.
    pub(super) fn is_in_number(self) -> bool {
        matches!(self, Self::Whole(_) | Self::Fraction | Self::Exponent(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_held_to_what_a_double_takes_and_nothing_else_is() {
        let ends = |text: &str| Place::default().after(text.as_bytes());
        for taken in ["[1e99,1E-99,-0.5e+12", "1", "{\"1e999\":\"1e999\\\"1e999\", \"a\":true}"] {
            assert!(ends(taken).is_some(), "{taken}");
        }
        for refused in ["1e100", "[-1.5E+100", "{\"a\\\\\":1e999", "\"\",2e001"] {
            assert_eq!(ends(refused), None, "{refused}");
        }
        assert_eq!(ends(&"1".repeat(200)), Some(Place::Whole(200)));
        assert_eq!(ends(&"1".repeat(201)), None);
        assert_eq!(ends(&format!("0.{}", "1".repeat(900))), Some(Place::Fraction));
        let greatest: f64 = format!("{}e99", "9".repeat(200)).parse().unwrap();
        assert!(greatest.is_finite());
        assert_eq!(ends("\"\\"), Some(Place::Text { escaped: true }));
        assert_eq!(ends("tru"), Some(Place::Between), "the e of words begins no exponent");
        assert_eq!(ends("[1e9").and_then(|place| place.after(b"9]")), Some(Place::Between));
    }
}
