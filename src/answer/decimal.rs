//! Exact decimal numbers as JSON writes them.
//!
//! Digits and exponent stay apart, so that `1e1000000000` costs twelve bytes and is never expanded.

use std::fmt;

/// A decimal number compared by value: `1`, `1.0` and `10e-1` are one, and so are `0` and `-0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(Form);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Form {
    /// `digits` × 10^`exponent`; the digits begin and end with a digit other than 0, and are empty for zero.
    Exact { negative: bool, digits: String, exponent: i64 },
    /// A number whose exponent has more than [`EXPONENT_DIGITS`] digits: equal to itself alone.
    Opaque(String),
}

/// Exponents of so many digits can be shifted by the length of any text without overflow.
const EXPONENT_DIGITS: usize = 17;

/// Zeros that [`Decimal`]'s text may add on either side of the digits before it turns to an exponent.
const PLAIN_ZEROS: i64 = 20;

impl Decimal {
    /// Reads a number in JSON's grammar, also allowing `+`, leading zeros and a bare point (`.5`, `5.`).
    /// `None` when the text is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
            None => (unsigned, None),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let (down, magnitude) = match exponent {
            None => (false, ""),
            Some(text) => {
                let (down, magnitude) = match text.strip_prefix('-') {
                    Some(rest) => (true, rest),
                    None => (false, text.strip_prefix('+').unwrap_or(text)),
                };
                if magnitude.is_empty() || !all_digits(magnitude) {
                    return None;
                }
                (down, magnitude.trim_start_matches('0'))
            }
        };

        let all: String = [whole, fraction].concat();
        let from_first = all.trim_start_matches('0');
        let digits = from_first.trim_end_matches('0');
        if digits.is_empty() {
            return Some(Self(Form::Exact { negative: false, digits: String::new(), exponent: 0 }));
        }
        if magnitude.len() > EXPONENT_DIGITS {
            let whole = whole.trim_start_matches('0');
            let whole = if whole.is_empty() { "0" } else { whole };
            let fraction = fraction.trim_end_matches('0');
            let (sign, point) = (if negative { "-" } else { "" }, if fraction.is_empty() { "" } else { "." });
            let down = if down { "-" } else { "" };
            return Some(Self(Form::Opaque(format!("{sign}{whole}{point}{fraction}e{down}{magnitude}"))));
        }
        let magnitude: i64 = if magnitude.is_empty() { 0 } else { magnitude.parse().ok()? };
        let exponent = if down { -magnitude } else { magnitude };
        let dropped = (from_first.len() - digits.len()) as i64;
        let exponent = exponent - fraction.len() as i64 + dropped;
        Some(Self(Form::Exact { negative, digits: digits.to_owned(), exponent }))
    }
}

/// The one way this module writes the number, itself a JSON number that reads back as the same value.
impl fmt::Display for Decimal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (negative, digits, exponent) = match &self.0 {
            Form::Opaque(text) => return out.write_str(text),
            Form::Exact { negative, digits, exponent } => (*negative, digits.as_str(), *exponent),
        };
        if digits.is_empty() {
            return out.write_str("0");
        }
        if negative {
            out.write_str("-")?;
        }
        // Where the decimal point stands, counted from the first digit.
        let point = digits.len() as i64 + exponent;
        if (0..=PLAIN_ZEROS).contains(&exponent) {
            write!(out, "{digits}{:0<1$}", "", exponent as usize)
        } else if exponent < 0 && point > 0 {
            let (whole, fraction) = digits.split_at(point as usize);
            write!(out, "{whole}.{fraction}")
        } else if point <= 0 && point > -PLAIN_ZEROS {
            write!(out, "0.{:0<1$}{digits}", "", -point as usize)
        } else {
            let (first, rest) = digits.split_at(1);
            let separator = if rest.is_empty() { "" } else { "." };
            write!(out, "{first}{separator}{rest}e{}", point - 1)
        }
    }
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn numbers_of_one_value_are_equal_however_they_are_written() {
        for same in [
            ["1", "1.0", "1e0"],
            ["10", "1E1", "100e-1"],
            ["0", "-0", "0e999999999999999999999"],
            ["-0.5", "-5e-1", "-.50"],
            ["1e400", "10e399", "0.1e+401"],
        ] {
            assert_eq!(read(same[0]), read(same[1]));
            assert_eq!(read(same[0]), read(same[2]));
        }
    }

    #[test]
    fn numbers_that_a_float_would_confuse_stay_apart() {
        assert_ne!(read("9007199254740993"), read("9007199254740992"));
        assert_ne!(read("1e400"), read("1e401"));
        assert_ne!(read("1e1000000000"), read("1e1000000001"));
        assert_ne!(read("0.1"), read("0.10000000000000001"));
        assert_ne!(read("1.5e99999999999999999999"), read("15e99999999999999999999"));
        assert_ne!(read("1"), read("-1"));
    }

    #[test]
    fn the_text_is_plain_where_it_is_short() {
        for (text, plain) in [
            ("1.50", "1.5"),
            ("-0", "0"),
            ("2e3", "2000"),
            ("12e-5", "0.00012"),
            ("9007199254740993", "9007199254740993"),
            ("1e400", "1e400"),
            ("123e-400", "1.23e-398"),
        ] {
            assert_eq!(read(text).to_string(), plain);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", ".", "e5", "1e", "1e+", "1.2.3", "0x10", "1_000", "NaN", "１"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_text_reads_back_as_the_same_number(text in "-?[0-9]{1,30}(\\.[0-9]{1,30})?(e-?[0-9]{1,22})?") {
            let number = read(&text);
            prop_assert_eq!(read(&number.to_string()), number);
        }
    }
}
