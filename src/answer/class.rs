//! The class that an extracted answer votes in.
//!
//! Two answers are in one class exactly when their labels are equal, so the relation is an equivalence by
//! construction. Numbers are compared exactly as rationals after units, currency and LaTeX dress are taken
//! off; a percentage is a number of its own kind; everything else is compared as normalised text. What a
//! number counts is not looked at: `5`, `5 km` and `5 m` are one class, since an equivalence that holds the first
//! equal to the others must.

use num_bigint::BigInt;
use num_rational::BigRational;

use super::dress::{trim, undress};
use super::equation::value_of_equation;
use super::expression::{self, Tree};
use super::notation::normalised;
use super::number::last_number;
use super::rational::{label, rational};
use super::units::{changes, is_measure, is_number_word, is_unit, scale};

/// Longer texts, and longer exact sides of approximations, are not looked at as mathematics.
const MAX_EXPRESSION_BYTES: usize = 1_000;

/// The class of an answer that stands alone (see [`super::extract()`]), named by its label: a number in its one
/// spelling (`0.5`, `1/3`, `50%`), an expression in its own (`sqrt(2)/2`, `(1,2)`) or normalised text. `None` when
/// nothing is left once the dress is off.
///
/// The label of an expression is itself in the class that it names, so no text can take it by chance.
pub fn answer_class(answer: &str) -> Option<String> {
    reading(answer).map(|reading| reading.label)
}

/// How an answer is read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// Names the class.
    pub label: String,
    pub meaning: Meaning,
}

#[derive(Debug, Clone)]
pub(super) enum Meaning {
    Expression(Tree),
    Percentage(BigRational),
    Text,
}

impl Reading {
    fn number(value: BigRational) -> Self {
        Self { label: label(&value), meaning: Meaning::Expression(Tree::Number(value)) }
    }
}

/// Reads an answer. `None` when nothing is left once the dress is off.
pub(super) fn reading(answer: &str) -> Option<Reading> {
    if let Some(exact) = before_approximation(answer) {
        return Some(exact);
    }
    let plain = undress(answer);
    let plain = trim(&plain);
    let value = value_of_equation(plain).map_or(plain, trim);
    if let Some((value, percentage)) = quantity(value) {
        return Some(if percentage {
            Reading { label: format!("{}%", label(&value)), meaning: Meaning::Percentage(value) }
        } else {
            Reading::number(value)
        });
    }
    let worked_out = || without_text(answer).or_else(|| mathematics(value));
    if let Some(reading) = (!in_degrees(answer)).then(worked_out).flatten() {
        return Some(reading);
    }
    let label = normalised(value);
    (!label.is_empty()).then_some(Reading { label, meaning: Meaning::Text })
}

/// Whether degrees are an argument, as in `\cos 60^\circ`: without its dress that would be the cosine of 60.
pub(super) fn in_degrees(answer: &str) -> bool {
    let functions = ["sin", "cos", "tan", "cot", "sec", "csc"];
    (answer.contains("\\circ") || answer.contains("\\degree") || answer.contains('°'))
        && functions.iter().any(|function| answer.contains(function))
}

/// An expression that ends with a unit or a description in LaTeX's text: `2^n \text{ ways}`.
fn without_text(answer: &str) -> Option<Reading> {
    if answer.len() > MAX_EXPRESSION_BYTES {
        return None;
    }
    let answer = answer.trim_end_matches(['$', '.', ' ']);
    let commands = ["\\text{", "\\textbf{", "\\textrm{", "\\mbox{", "\\mathrm{"];
    let (at, command) = commands.into_iter().filter_map(|command| Some((answer.rfind(command)?, command))).max()?;
    let (unit, power) = answer[at + command.len()..].split_once('}')?;
    let ends = matches!(power, "" | "^2" | "^3" | "^{2}" | "^{3}" | "^{-1}");
    if !ends || !is_unit(unit.trim(), false) {
        return None;
    }
    let head = undress(&answer[..at]);
    let head = trim(&head);
    mathematics(value_of_equation(head).map_or(head, trim))
        .filter(|reading| matches!(reading.meaning, Meaning::Expression(_)))
}

/// The exact value of `1/3 ≈ 0.33`.
fn before_approximation(answer: &str) -> Option<Reading> {
    let at = ["\\approx", "\\simeq", "≈"].into_iter().filter_map(|sign| answer.find(sign)).min()?;
    let head = answer[..at].trim_end_matches(['$', ' ']);
    let exact = !head.trim().is_empty() && head.len() <= MAX_EXPRESSION_BYTES;
    let constant = |reading: &Reading| matches!(&reading.meaning, Meaning::Expression(tree) if tree.is_constant());
    exact.then(|| reading(head)).flatten().filter(constant)
}

/// An expression with its unit or without. A lone letter is an option or a name, whose case does not count.
fn mathematics(text: &str) -> Option<Reading> {
    if text.len() > MAX_EXPRESSION_BYTES {
        return None;
    }
    let read = |text: &str| {
        let tree = expression::read(text)?;
        let label = expression::key(&tree)?;
        // What comes to a plain number is that number, and what comes to a letter is that letter.
        if let Some(value) = rational(&label) {
            return Some(Reading::number(value));
        }
        match expression::read(&label) {
            Some(Tree::Symbol(name)) if name != "pi" => {
                Some(Reading { label: normalised(&label), meaning: Meaning::Text })
            }
            _ => Some(Reading { label, meaning: Meaning::Expression(tree) }),
        }
    };
    let unit = text.match_indices(' ').find(|(at, _)| is_measure(&text[at + 1..])).map(|(at, _)| &text[..at]);
    if let Some(bare) = unit
        && let Some(reading) = read(bare.trim_end())
        && matches!(&reading.meaning, Meaning::Expression(tree) if tree.is_constant())
    {
        return Some(reading);
    }
    read(text)
}

/// The label of the last number in a text, `None` where there is none. `5 million` is 5000000; a percent sign is
/// not looked at.
pub fn number_class(text: &str) -> Option<String> {
    let range = last_number(text)?;
    let plain = undress(&text[range.clone()]);
    let Some(value) = rational(&plain) else { return Some(plain) };
    let before = text[..range.start].trim_end();
    let head = before.get(before.len().saturating_sub("negative".len())..);
    let negative = head.is_some_and(|word| word.eq_ignore_ascii_case("negative"));
    let value = scaled(value, &text[range.end..]).0;
    Some(label(&if negative { -value } else { value }))
}

/// The number times the words of scale after it, and what follows these.
fn scaled(value: BigRational, rest: &str) -> (BigRational, &str) {
    match scale(rest) {
        Some((factor, rest)) => (value * BigRational::from_integer(BigInt::from(factor)), rest),
        None => (value, rest),
    }
}

/// A number with its unit, and whether it is a percentage, where the text is one.
fn quantity(text: &str) -> Option<(BigRational, bool)> {
    let vague = ["about ", "approximately ", "roughly ", "around ", "exactly "];
    let text = vague.into_iter().find_map(|word| text.strip_prefix(word)).map_or(text, str::trim_start);
    if let Some(value) = rational(text) {
        return Some((value, false));
    }
    if let Some(rest) = text.strip_prefix("minus ").or_else(|| text.strip_prefix("negative ")) {
        return rest.starts_with(|c: char| c.is_ascii_digit()).then(|| quantity(&format!("-{rest}"))).flatten();
    }
    // `12 (twelve)` says it twice.
    if let Some((number, remark)) = text.strip_suffix(')').and_then(|rest| rest.split_once(" (")) {
        let harmless = remark.chars().all(|c| c.is_alphabetic() || c == ' ' || c == '-')
            && (is_number_word(remark.split([' ', '-']).next().unwrap_or_default())
                || !remark.split([' ', '-']).any(|word| changes(word) || scale(word).is_some()));
        return harmless.then(|| quantity(number)).flatten();
    }
    let unit_start = unit_start(text)?;
    let value = rational(&text[..unit_start])?;
    let glued = unit_start > 0 && !text[..unit_start].ends_with(' ');
    let (value, unit) = if glued { (value, &text[unit_start..]) } else { scaled(value, &text[unit_start..]) };
    let unit = unit.trim();
    match unit.strip_prefix('%') {
        Some("") => Some((value, true)),
        Some(_) => None,
        None if matches!(unit, "percent" | "per cent" | "pct") => Some((value, true)),
        None => (unit.is_empty() || is_unit(unit, glued)).then_some((value, false)),
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
