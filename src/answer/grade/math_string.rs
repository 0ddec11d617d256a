//! The string rule: two answers are one where their texts are, after the spelling of the MATH benchmark's graders
//! (Hendrycks et al. 2021, "Measuring mathematical problem solving with the MATH dataset").

use std::borrow::Cow;

/// Longer answers are compared as they are.
const MAX_BYTES: usize = 2_000;

/// Whether two answers are one by their spelling.
pub(super) fn same(one: &str, other: &str) -> bool {
    let (one, other) = (spelled(one), spelled(other));
    !one.is_empty() && one == other
}

/// The spelling of an answer: one command for fractions, arguments in braces, no sizes, spaces, units, currency,
/// percent or degree signs, a nought before the point, and the value alone of `x = 5`.
fn spelled(answer: &str) -> Cow<'_, str> {
    if answer.len() > MAX_BYTES {
        return Cow::Borrowed(answer);
    }
    let mut text = answer.replace('\n', "").replace("\\\\", "\\").replace("\\!", "");
    for (long, short) in [
        ("\\tfrac", "\\frac"),
        ("\\dfrac", "\\frac"),
        ("\\left", ""),
        ("\\right", ""),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("\\$", ""),
        ("$", ""),
        ("\\%", ""),
        ("%", ""),
    ] {
        text = text.replace(long, short);
    }
    // A unit ends the answer; text that stands alone is the answer, and `1 \text{ or } 2` has no unit.
    if let Some(at) = text.find("\\text{")
        && at > 0
        && text[at..].find('}').is_some_and(|close| text[at + close + 1..].trim().is_empty())
    {
        text.truncate(at);
    }
    text.retain(|c| !c.is_whitespace());
    if let Some((name, value)) = text.split_once('=')
        && name.len() <= 2
        && !value.contains('=')
    {
        text = value.to_owned();
    }
    Cow::Owned(fraction(&arguments(&noughts(&text))))
}

/// `.5` as `0.5`.
fn noughts(text: &str) -> String {
    let mut full = String::with_capacity(text.len() + 4);
    for c in text.chars() {
        if c == '.' && !full.ends_with(|last: char| last.is_ascii_digit()) {
            full.push('0');
        }
        full.push(c);
    }
    full
}

/// `\frac12` and `\sqrt3` with braces around their arguments.
fn arguments(text: &str) -> String {
    let mut full = String::with_capacity(text.len() + 8);
    let mut rest = text;
    // How many arguments are still due.
    let mut due = 0;
    while let Some(c) = rest.chars().next() {
        let command = [("\\frac", 2), ("\\sqrt", 1)].into_iter().find(|(name, _)| rest.starts_with(name));
        if let Some((name, count)) = command {
            full.push_str(name);
            rest = &rest[name.len()..];
            due = count;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        if due > 0 && c == '{' {
            let length = group(rest);
            full.push('{');
            // What is inside has arguments of its own; their depth is bounded by the text's length.
            full.push_str(&rest[..length]);
            rest = &rest[length..];
            due -= 1;
        } else if due > 0 && c.is_alphanumeric() {
            full.extend(['{', c, '}']);
            due -= 1;
        } else {
            due = 0;
            full.push(c);
        }
    }
    full
}

/// The length of a group with its closing brace, from after the opening one.
fn group(text: &str) -> usize {
    let mut depth = 1;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// `1/2` and `0.5` as `\frac{1}{2}`, where that is the whole answer.
fn fraction(text: &str) -> String {
    if text == "0.5" {
        return "\\frac{1}{2}".to_owned();
    }
    let whole = |part: &str| part.strip_prefix('-').unwrap_or(part).bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('/') {
        Some((above, below)) if !above.is_empty() && !below.is_empty() && whole(above) && whole(below) => {
            format!("\\frac{{{above}}}{{{below}}}")
        }
        _ => text.to_owned(),
    }
}
