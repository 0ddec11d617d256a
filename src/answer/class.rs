//! The class that an extracted answer votes in.
//!
//! Two answers are in one class exactly when their labels are equal, so the relation is an equivalence by
//! construction. Numbers are compared exactly as rationals after units, currency and LaTeX dress are taken
//! off; a percentage is a number of its own kind; everything else is compared as normalised text.

use super::dress::{trim, undress};
use super::number::last_number;
use super::rational::{label, rational};

/// The class of an answer that stands alone (see [`super::extract()`]), named by its label: a number in its one
/// spelling (`0.5`, `1/3`, `50%`) or normalised text. `None` when nothing is left once the dress is off.
pub fn answer_class(answer: &str) -> Option<String> {
    let plain = undress(answer);
    let plain = trim(&plain);
    let value = right_hand_side(plain).unwrap_or(plain);
    let label = quantity(value).unwrap_or_else(|| normalised_text(value));
    (!label.is_empty()).then_some(label)
}

/// The label of the last number in a text, `None` where there is none. A percent sign is not looked at.
pub fn number_class(text: &str) -> Option<String> {
    let plain = undress(last_number(text)?);
    Some(rational(&plain).map_or(plain, |value| label(&value)))
}

/// What an equation says: `5` for `x = 5`, `5 = x` and `2 + 3 = 5`. `None` when the text is no single equation,
/// as `x = 5, y = 3` is not.
fn right_hand_side(text: &str) -> Option<&str> {
    let (left, right) = text.rsplit_once('=')?;
    let right = right.trim();
    let single = !left.contains([',', ';', '<', '>', '≤', '≥', '≠', '!']) && !left.ends_with('\\');
    let joined = left.split_whitespace().any(|word| matches!(word, "or" | "and"));
    if right.is_empty() || left.trim().is_empty() || !single || joined {
        return None;
    }
    if is_name(right) && quantity(left.trim()).is_some() {
        return Some(left.trim());
    }
    (quantity(right).is_some() || is_name(left.trim())).then_some(right)
}

/// A variable, a function of one, or a few words that name a quantity.
fn is_name(text: &str) -> bool {
    text.len() <= 40
        && text.starts_with(|first: char| first.is_alphabetic() || first == '\\')
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '{' | '}' | '(' | ')' | ' ' | '\\' | '\''))
}

/// The label of a number with its unit or percent sign, where the text is one.
fn quantity(text: &str) -> Option<String> {
    if let Some(value) = rational(text) {
        return Some(label(&value));
    }
    // `12 (twelve)` says it twice.
    if let Some((number, remark)) = text.strip_suffix(')').and_then(|rest| rest.split_once(" (")) {
        return remark.chars().all(|c| c.is_alphabetic() || c == ' ' || c == '-').then(|| quantity(number)).flatten();
    }
    let unit_start = unit_start(text)?;
    let value = rational(&text[..unit_start])?;
    let unit = text[unit_start..].trim();
    match unit.strip_prefix('%') {
        Some("") => Some(format!("{}%", label(&value))),
        Some(_) => None,
        None if matches!(unit, "percent" | "per cent") => Some(format!("{}%", label(&value))),
        None => is_unit(unit, unit_start > 0 && !text[..unit_start].ends_with(' ')).then(|| label(&value)),
    }
}

/// Where the number ends and something else begins; `\frac` and an exponent's `e` belong to the number.
fn unit_start(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if text[at..].starts_with("\\frac") {
            at += "\\frac".len();
            continue;
        }
        let c = text[at..].chars().next()?;
        let exponent = matches!(c, 'e' | 'E')
            && at > 0
            && bytes[at - 1].is_ascii_digit()
            && bytes.get(at + 1).is_some_and(|next| next.is_ascii_digit() || matches!(next, b'-' | b'+'));
        if (c.is_alphabetic() && !exponent) || matches!(c, '%' | '\\') {
            return Some(at);
        }
        at += c.len_utf8();
    }
    None
}

/// Words after a number that change its value or join it to another.
const NOT_UNITS: [&str; 30] = [
    "hundred",
    "thousand",
    "million",
    "billion",
    "trillion",
    "dozen",
    "k",
    "mn",
    "bn",
    "pi",
    "e",
    "i",
    "or",
    "and",
    "to",
    "plus",
    "minus",
    "times",
    "mod",
    "base",
    "am",
    "pm",
    "bc",
    "ad",
    "half",
    "halves",
    "squared",
    "cubed",
    "factorial",
    "percent",
];

/// One-letter units; any other single letter is a variable.
const LETTER_UNITS: &str = "mgslhLNJWVAKCF";

/// Whether what follows a number only says what it counts.
fn is_unit(unit: &str, glued: bool) -> bool {
    let words: Vec<&str> = unit.split([' ', '/', '×', '-']).filter(|word| !word.is_empty()).collect();
    let is_word = |word: &&str| {
        let (letters, power) = match word.find(['^', '²', '³']) {
            Some(at) => word.split_at(at),
            None => (*word, ""),
        };
        let known_power =
            matches!(power, "" | "²" | "³" | "^2" | "^3" | "^{2}" | "^{3}" | "^-1" | "^{-1}" | "^-2" | "^{-2}");
        let letters = letters.trim_end_matches(['.', '\'']);
        let mut chars = letters.chars();
        let known_letters = match (chars.next(), chars.next()) {
            (None, _) => !power.is_empty(),
            (Some(only), None) => LETTER_UNITS.contains(only),
            _ => letters.chars().all(char::is_alphabetic),
        };
        known_power && known_letters && !NOT_UNITS.contains(&letters.to_lowercase().as_str())
    };
    // What is glued to the number is one unit; several words after a space are still a description.
    !words.is_empty() && words.len() <= if glued { 3 } else { 5 } && words.iter().all(is_word)
}

/// Text in lower case, with white space collapsed, and none beside anything but letters and digits.
fn normalised_text(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    let mut pending_space = false;
    for c in text.chars() {
        if c.is_whitespace() {
            pending_space = true;
            continue;
        }
        if pending_space && c.is_alphanumeric() && normal.ends_with(char::is_alphanumeric) {
            normal.push(' ');
        }
        pending_space = false;
        normal.extend(c.to_lowercase());
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn class(text: &str) -> String {
        answer_class(text).unwrap_or_default()
    }

    #[test]
    fn one_number_is_one_class_however_it_is_dressed() {
        for text in [
            "0.5",
            "1/2",
            "\\frac{1}{2}",
            "\\dfrac{1}{2}",
            "$\\tfrac12$",
            "\\(0.50\\)",
            "x = 5/10",
            "0.5 units",
            "$.5",
            "**0.5**",
            "\\text{0.5}",
            "0.5\\text{ cm}",
            "\\frac{1}{2} \\text{ cup}",
            "y=\\frac{1}{2}.",
            "(0.5)",
            "f(x) = 0.5",
            "1/4 + 1/4 = 1/2",
            "0.5 (one half)",
            "1/2 = n",
            "≈ 0.5",
            "US$0.50",
            "０.５",
            "x \\approx 0.5",
            "\\left(\\frac{1}{2}\\right)",
        ] {
            assert_eq!(class(text), "0.5", "{text}");
        }
        for text in [
            "1000",
            "1,000",
            "1{,}000",
            "1\\,000",
            "\\$1,000.00",
            "1\u{202f}000",
            "1000 dollars",
            "1e3",
            "10^\\circ".replace("10", "1000").as_str(),
        ] {
            assert_eq!(class(text), "1000", "{text}");
        }
        for text in ["90^\\circ", "90^{\\circ}", "90°", "90 degrees", "90\\degree"] {
            assert_eq!(class(text), "90", "{text}");
        }
        for text in ["−3", "-3.0", "$-3$", "x=-3"] {
            assert_eq!(class(text), "-3", "{text}");
        }
    }

    #[test]
    fn mixed_numbers_and_fraction_signs_are_read() {
        for text in ["1 1/2", "1½", "1\\frac{1}{2}", "1.5", "\\frac32", "1 ½ cups"] {
            assert_eq!(class(text), "1.5", "{text}");
        }
    }

    #[test]
    fn a_percentage_is_a_number_of_its_own_kind() {
        for text in ["50%", "50\\%", "$50\\%$", "50 percent", "50.0 \\%"] {
            assert_eq!(class(text), "50%", "{text}");
        }
        assert_ne!(class("50%"), class("50"));
        assert_ne!(class("50%"), class("0.5"));
    }

    #[test]
    fn words_that_change_a_number_are_no_units() {
        assert_eq!(class("5 km/h"), "5");
        assert_eq!(class("5 m^2"), "5");
        assert_eq!(class("12 red apples"), "12");
        for (text, plain) in [
            ("5 million", "5"),
            ("3 PM", "3"),
            ("2 or 3", "2"),
            ("5x", "5"),
            ("2\\pi", "2"),
            ("3\\sqrt{2}", "3"),
            ("5k", "5"),
            ("5!", "5"),
            ("5 (3)", "5"),
        ] {
            assert_ne!(class(text), plain, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_compared_as_normalised_text() {
        assert_eq!(class("Paris."), "paris");
        assert_eq!(class("\"Paris\""), "paris");
        assert_eq!(class("\\text{Paris}"), "paris");
        assert_eq!(class("(B)"), "b");
        assert_eq!(class("(x - 2)(x + 2)"), class("\\left(x-2\\right)\\left(x+2\\right)"));
        assert_eq!(class("New   York"), "new york");
        assert_eq!(class("(1, 2)"), "(1,2)");
        assert_ne!(class("(1, 2)"), class("(2, 1)"));
        assert_ne!(class("x=5, y=3"), class("3"));
        assert_eq!(class("x = y + 1"), "y+1");
    }

    #[test]
    fn nothing_is_no_class() {
        for text in ["", " ", "$$", "**", ".", "\\text{}"] {
            assert_eq!(answer_class(text), None, "{text}");
        }
    }

    #[test]
    fn the_last_number_votes_without_its_unit_or_sign_of_percent() {
        assert_eq!(number_class("that is 1,200.50 km").as_deref(), Some("1200.5"));
        assert_eq!(number_class("so −3%").as_deref(), Some("-3"));
        assert_eq!(number_class("or \\dfrac{1}{2}").as_deref(), Some("0.5"));
        assert_eq!(number_class("we owe -$30").as_deref(), Some("-30"));
        assert_eq!(number_class("no idea"), None);
        let long = "1".repeat(5_000);
        assert_eq!(number_class(&long), Some(long));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_class_panic(text in "(\\\\frac|\\\\text\\{|\\\\circ|[-0-9.,=/{}()\\\\$%e^ a-z*]|.){0,40}") {
            let _ = answer_class(&text);
            let _ = number_class(&text);
        }

        #[test]
        fn every_spelling_of_a_fraction_is_one_class(numerator in -1000i64..1000, denominator in 1i64..1000, factor in 1i64..20) {
            let plain = class(&format!("{numerator}/{denominator}"));
            let (n, d) = (numerator * factor, denominator * factor);
            prop_assert_eq!(&class(&format!("\\dfrac{{{n}}}{{{d}}}")), &plain);
            prop_assert_eq!(&class(&format!("$x = {n}/{d}$ units")), &plain);
            prop_assert_eq!(&class(&plain), &plain);
        }
    }
}
