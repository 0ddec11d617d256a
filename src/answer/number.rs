//! Finding numbers in prose.

use std::ops::Range;

use super::dress::{superscript, undress};
use super::rational::rational;

/// A longer mixed number is read as two.
const MAX_MIXED_BYTES: usize = 100;

/// Where the last number in a text stands, as it is written there: sign, thousands separators, decimals, a fraction
/// (`3/4`, `\frac{3}{4}`) and an exponent belong to it; units, currency and a percent sign do not.
///
/// Digits inside a word (`H2O`), an index (`x_1`) or the power of a letter (`m^2`) are no number. Takes time linear in the text.
pub(super) fn last_number(text: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let mut last = None;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == b'\\' {
            let end = at + 1 + letters(&bytes[at + 1..]);
            let fraction =
                matches!(&text[at + 1..end], "frac" | "dfrac" | "tfrac" | "cfrac").then(|| latex_fraction(bytes, end));
            if let Some(Some(end)) = fraction {
                last = mixed(text, last, at, end).or(Some(sign_before(text, at)..end));
                at = end;
            } else if bytes.get(end).is_some_and(u8::is_ascii_digit) {
                // The digit after a command (`\times5`) belongs to no word.
                let number_end = number(bytes, end);
                last = Some(end..number_end);
                at = number_end;
            } else {
                at = end.max(at + 1);
            }
        } else if byte.is_ascii_alphabetic() || byte == b'_' {
            at += letters(&bytes[at..]).max(1);
            // Digits that a word runs into are part of the word.
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
        } else if let Some(base_end) = starts_number(bytes, at).then(|| script_base(text, at)).flatten() {
            let end = number(bytes, at);
            let closed = end + usize::from(bytes[at - 1] != b'^' && bytes.get(end) == Some(&b'}'));
            last = last.map(|base| power(text, &base, base_end, closed).unwrap_or(base));
            at = end;
        } else if starts_number(bytes, at) {
            let number_end = number(bytes, at);
            let fraction = plain_fraction(bytes, at, number_end);
            let end = fraction.or_else(|| power_of_ten(text, number_end)).unwrap_or(number_end);
            let end = end + fraction_sign(&text[end..]);
            // `10³`
            let raised = text[end..].find(|c| superscript(c).is_none()).unwrap_or(text.len() - end);
            let end = end + raised;
            last = fraction.and_then(|_| mixed(text, last, at, end)).or(Some(sign_before(text, at)..end));
            at = end;
        } else if fraction_sign(text.get(at..).unwrap_or_default()) > 0 {
            let end = at + fraction_sign(&text[at..]);
            last = mixed(text, last, at, end).or(Some(sign_before(text, at)..end));
            at = end;
        } else {
            at += 1;
        }
    }
    last
}

fn letters(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_alphabetic()).count()
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn starts_number(bytes: &[u8], at: usize) -> bool {
    let digit_at = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    digit_at(at) || bytes[at] == b'.' && digit_at(at + 1) && (at == 0 || !bytes[at - 1].is_ascii_alphanumeric())
}

/// The end of the decimal number that starts at `start`.
fn number(bytes: &[u8], start: usize) -> usize {
    let mut at = start + digits(&bytes[start..]);
    if (1..=3).contains(&(at - start)) && bytes[start] != b'0' {
        let mut groups = at;
        while let Some(separator) = thousands_separator(&bytes[groups..]) {
            let group = digits(&bytes[groups + separator..]);
            if group != 3 {
                break;
            }
            groups += separator + 3;
        }
        at = groups;
    }
    if bytes.get(at) == Some(&b'.') {
        let decimals = digits(&bytes[at + 1..]);
        if decimals > 0 {
            at += 1 + decimals;
        }
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'-' | b'+')));
        let exponent = digits(bytes.get(at + 1 + sign..).unwrap_or_default());
        let end = at + 1 + sign + exponent;
        if exponent > 0 && !bytes.get(end).is_some_and(u8::is_ascii_alphabetic) {
            at = end;
        }
    }
    at
}

/// The width of a thousands separator: a comma, or LaTeX's `{,}` and `\,`.
fn thousands_separator(bytes: &[u8]) -> Option<usize> {
    [&b"{,}"[..], b",\\!", b"\\,", b","].into_iter().find(|separator| bytes.starts_with(separator)).map(<[u8]>::len)
}

/// The end of `a/b` where the number `start..end` is its numerator; `1/2/2024` is a date, not a fraction.
fn plain_fraction(bytes: &[u8], start: usize, end: usize) -> Option<usize> {
    let slash_before = start > 0 && bytes[start - 1] == b'/';
    if slash_before || bytes.get(end) != Some(&b'/') || !bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let denominator_end = number(bytes, end + 1);
    (bytes.get(denominator_end) != Some(&b'/')).then_some(denominator_end)
}

/// Where the base ends of the power or index that a number at `start` is. Alone it is no number: `5 m^2` is 5.
fn script_base(text: &str, start: usize) -> Option<usize> {
    let before = &text[..start];
    let before = before.strip_suffix(['-', '−']).unwrap_or(before);
    let before = before.strip_suffix('{').unwrap_or(before);
    before.strip_suffix(['^', '_']).map(str::len)
}

/// A power of the number found before it, as `10^3` is.
fn power(text: &str, base: &Range<usize>, base_end: usize, end: usize) -> Option<Range<usize>> {
    let short = base.end == base_end && end - base.start <= MAX_MIXED_BYTES;
    (short && rational(&undress(&text[base.start..end])).is_some()).then_some(base.start..end)
}

/// The width of a fraction in one character at the start of a text.
fn fraction_sign(text: &str) -> usize {
    text.chars().next().filter(|c| matches!(c, '½' | '⅓' | '⅔' | '¼' | '¾')).map_or(0, char::len_utf8)
}

/// Where the mixed number stands whose whole is the number found before the fraction `start..end`.
fn mixed(text: &str, before: Option<Range<usize>>, start: usize, end: usize) -> Option<Range<usize>> {
    let whole = |before: &Range<usize>| text[before.clone()].ends_with(|c: char| c.is_ascii_digit());
    let before = before.filter(|before| matches!(&text[before.end..start], "" | " ") && whole(before))?;
    (end - before.start <= MAX_MIXED_BYTES && rational(&undress(&text[before.start..end])).is_some())
        .then_some(before.start..end)
}

/// The end of `×10^5` or `\times 10^{-5}` where the number that ends at `end` is its mantissa.
fn power_of_ten(text: &str, end: usize) -> Option<usize> {
    let after = text[end..].trim_start_matches(' ');
    let times = ["×", "\\times", "\\cdot", "⋅", "·", "*"].into_iter().find_map(|sign| after.strip_prefix(sign))?;
    let power = times.trim_start_matches(' ').strip_prefix("10^")?;
    let (power, closing) = match power.strip_prefix('{') {
        Some(inner) => (inner, "}"),
        None => (power, ""),
    };
    let exponent = power.strip_prefix(['-', '−']).unwrap_or(power);
    let length = digits(exponent.as_bytes());
    let rest = exponent[length..].strip_prefix(closing)?;
    (length > 0).then(|| text.len() - rest.len())
}

/// The end of the two arguments of a LaTeX fraction, where both are plain numbers.
fn latex_fraction(bytes: &[u8], start: usize) -> Option<usize> {
    let argument = |at: usize| {
        if bytes.get(at).is_some_and(u8::is_ascii_digit) {
            return Some(at + 1);
        }
        let number_start = at + 1 + usize::from(bytes.get(at + 1) == Some(&b'-'));
        let opened = bytes.get(at) == Some(&b'{') && bytes.get(number_start).is_some_and(u8::is_ascii_digit);
        let end = opened.then(|| number(bytes, number_start))?;
        (bytes.get(end) == Some(&b'}')).then_some(end + 1)
    };
    argument(argument(start)?)
}

/// Where the sign of the number at `start` stands, or `start` itself. A minus that follows a letter, a digit
/// or a closing bracket subtracts (`10-5`); a currency sign may stand between the minus and the number.
fn sign_before(text: &str, start: usize) -> usize {
    let before = &text[..start];
    let before_currency = before.strip_suffix(['$', '€', '£']).map(|rest| rest.strip_suffix('\\').unwrap_or(rest));
    for head in std::iter::once(before).chain(before_currency) {
        if let Some(rest) = head.strip_suffix(['-', '−', '﹣', '－', '–', '‐', '‑']) {
            let subtracts =
                rest.ends_with(|last: char| last.is_alphanumeric() || matches!(last, ')' | ']' | '}' | '-'));
            return if subtracts { start } else { rest.len() };
        }
    }
    // `= - 5`: nothing stands before this minus that it could subtract from.
    let apart = before.strip_suffix(' ').and_then(|rest| rest.strip_suffix(['-', '−']));
    apart
        .map(str::trim_end)
        .filter(|rest| rest.ends_with(['=', '(']))
        .map_or(start, |_| before.trim_end_matches(' ').trim_end_matches(['-', '−']).len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str) -> Option<&str> {
        last_number(text).map(|range| &text[range])
    }

    #[test]
    fn the_last_number_is_found_as_it_is_written() {
        for (text, expected) in [
            ("3 apples and 4 pears make 7.", "7"),
            ("It costs $1,234.50 in total.", "1,234.50"),
            ("-5", "-5"),
            ("so x = −12", "−12"),
            ("10-5", "5"),
            ("(10)-5", "5"),
            ("we owe -$30", "-$30"),
            ("3/4 of them", "3/4"),
            ("on 1/2/2024", "2024"),
            ("half is \\frac{1}{2}.", "\\frac{1}{2}"),
            ("minus -\\dfrac{3}{4}", "-\\dfrac{3}{4}"),
            ("1.5e-3 m", "1.5e-3"),
            ("4 eggs", "4"),
            ("1, 2, 3", "3"),
            ("about 12,345,678 people", "12,345,678"),
            ("12,3456", "3456"),
            ("6.02×10^23 of them", "6.02×10^23"),
            ("-1.6 \\times 10^{-19}.", "-1.6 \\times 10^{-19}"),
            ("3 × 10^x", "10"),
            ("1{,}000", "1{,}000"),
            (".5", ".5"),
            ("5.", "5"),
            ("x=5", "5"),
            ("\\boxed{42}", "42"),
            ("3\\times5", "5"),
            ("答案是5", "5"),
            ("5km", "5"),
            ("50%", "50"),
            ("2 1/2 cups", "2 1/2"),
            ("-2\\frac{1}{2}", "-2\\frac{1}{2}"),
            ("2½", "2½"),
            ("5 m^2", "5"),
            ("5 cm^{2}.", "5"),
            ("4 and x^2", "4"),
            ("10^3", "10^3"),
            ("10³ or so", "10³"),
            ("5 m³", "5"),
            ("2^{-3} of it", "2^{-3}"),
            ("7 or a_{1}", "7"),
            ("½", "½"),
            ("step 2 3/2", "3/2"),
            ("x = - 5", "- 5"),
            ("7 - 5", "5"),
            ("–5", "–5"),
        ] {
            assert_eq!(found(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn digits_inside_words_are_no_number() {
        assert_eq!(found("12 grams of CO2"), Some("12"));
        assert_eq!(found("H2O and x_1"), None);
        assert_eq!(found("none at all"), None);
        assert_eq!(found(""), None);
    }

    proptest! {
        #[test]
        fn any_text_is_searched_without_panic(text in "(\\\\frac|[-−0-9.,/{}\\\\$eE a_x%]|.){0,40}") {
            if let Some(range) = last_number(&text) {
                prop_assert!(text.get(range).is_some_and(|found| found.contains(|c: char| c.is_ascii_digit() || fraction_sign(&c.to_string()) > 0)));
            }
        }
    }
}
