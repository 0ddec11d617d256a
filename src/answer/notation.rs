//! The one spelling of what is no number: text, formulas, tuples, intervals and sets.

use super::rational::{label, rational};

/// A longer argument of a fraction is left as it is; without a limit, open braces would cost quadratic time.
const MAX_ARGUMENT_BYTES: usize = 200;

/// Longer lists are compared as they are written.
const MAX_LIST_BYTES: usize = 10_000;

/// The normalised text of an answer. A list in brackets keeps its brackets and its order, its elements in their
/// one spelling; a set in braces has neither order nor repetition.
pub(super) fn normalised(text: &str) -> String {
    if text.len() > MAX_LIST_BYTES {
        return formula(text);
    }
    let braces = text.strip_prefix("\\{").and_then(|rest| rest.strip_suffix("\\}"));
    let braces = braces.or_else(|| text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')));
    if let Some(mut elements) = braces.and_then(elements) {
        elements.sort();
        elements.dedup();
        return format!("\\{{{}\\}}", elements.join(","));
    }
    let bracketed = text.len() > 2 && text.starts_with(['(', '[']) && text.ends_with([')', ']']);
    match bracketed.then(|| elements(&text[1..text.len() - 1])).flatten() {
        Some(elements) => format!("{}{}{}", &text[..1], elements.join(","), &text[text.len() - 1..]),
        None => elements(text).map_or_else(|| formula(text), |elements| elements.join(",")),
    }
}

/// The elements between the commas of a list of at least two, each in its one spelling. `None` where there is no
/// comma outside brackets, or where brackets close that have not opened.
fn elements(text: &str) -> Option<Vec<String>> {
    let mut elements = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                elements.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    elements.push(&text[start..]);
    let spelled = |element: &&str| match rational(element.trim()) {
        // What begins with a needless zero may belong to the number before it, as in `1,050, 2`.
        Some(value)
            if !(element.trim().starts_with('0') && element.trim()[1..].starts_with(|c: char| c.is_ascii_digit())) =>
        {
            label(&value)
        }
        _ => formula(element.trim()),
    };
    (elements.len() > 1).then(|| elements.iter().map(spelled).collect())
}

/// Text in lower case but for LaTeX commands, with white space collapsed, and none beside anything but letters and
/// digits; one spelling for roots, powers, indices, fractions and the common signs.
fn formula(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    let mut pending_space = false;
    // Whether the last characters are a LaTeX command, whose case counts: `\Delta` is not `\delta`.
    let mut in_command = false;
    // A sign that became a command stands apart from the letter after it.
    let mut after_sign = false;
    for c in text.chars() {
        if c.is_whitespace() {
            pending_space = true;
            continue;
        }
        if pending_space && c.is_alphanumeric() && normal.ends_with(char::is_alphanumeric) {
            // A command ends at a digit by itself.
            if !(in_command && c.is_ascii_digit()) {
                normal.push(' ');
            }
            in_command = false;
        }
        pending_space = false;
        if after_sign && c.is_ascii_alphabetic() {
            normal.push(' ');
            in_command = false;
        }
        after_sign = false;
        in_command = c == '\\' || in_command && c.is_ascii_alphabetic();
        match sign(c) {
            Some(spelling) => {
                normal.push_str(spelling);
                in_command = spelling.starts_with('\\');
                after_sign = in_command;
            }
            None if in_command => normal.push(c),
            None => normal.extend(c.to_lowercase()),
        }
    }
    slanted(&unbraced(&normal))
}

/// The spelling of a sign that LaTeX writes as a command or a power.
fn sign(c: char) -> Option<&'static str> {
    Some(match c {
        'π' => "\\pi",
        '√' => "\\sqrt",
        '∞' => "\\infty",
        '±' => "\\pm",
        '≤' => "\\le",
        '≥' => "\\ge",
        '≠' => "\\ne",
        '∪' => "\\cup",
        '∩' => "\\cap",
        '∅' => "\\emptyset",
        '²' => "^2",
        '³' => "^3",
        _ => return None,
    })
}

/// Drops the braces around the single character of a power, an index or a root.
fn unbraced(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut inner = rest.chars().skip(1);
        if c == '{'
            && (plain.ends_with(['^', '_']) || plain.ends_with("\\sqrt"))
            && let (Some(only), Some('}')) = (inner.next(), inner.next())
            && (only.is_ascii_digit() || only.is_ascii_alphabetic() && plain.ends_with(['^', '_']))
        {
            plain.push(only);
            rest = &rest[3..];
            continue;
        }
        plain.push(c);
        rest = &rest[c.len_utf8()..];
    }
    for (long, short) in [("\\leq", "\\le"), ("\\geq", "\\ge"), ("\\neq", "\\ne"), ("\\varnothing", "\\emptyset")] {
        plain = plain.replace(long, short);
    }
    plain
}

/// Writes `\frac{a}{b}` as `a/b` where that says the same: it stands apart, and each part is one factor.
fn slanted(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\frac") {
        plain.push_str(&rest[..at]);
        let after = &rest[at + "\\frac".len()..];
        let apart = plain.is_empty() || plain.ends_with(['(', '[', ',', '{', '=', '+', '-']);
        match arguments(after) {
            Some((numerator, denominator, next))
                if apart && (next.is_empty() || next.starts_with([')', ']', ',', '}', '=', '+', '-'])) =>
            {
                plain.push_str(&format!("{numerator}/{denominator}"));
                rest = next;
            }
            _ => {
                plain.push_str("\\frac");
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// Both arguments of a fraction, where each is one factor or a number before one, and what follows them.
fn arguments(text: &str) -> Option<(&str, &str, &str)> {
    let argument = |text: &'_ str| -> Option<usize> {
        let mut depth = 0;
        for (at, byte) in text.bytes().enumerate().take(MAX_ARGUMENT_BYTES) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return (at > 0).then_some(at);
            }
        }
        None
    };
    let first = argument(text)?;
    let second = argument(&text[first + 1..])? + first + 1;
    let (numerator, denominator) = (&text[1..first], &text[first + 2..second]);
    let (digits, factor) =
        numerator.split_at(numerator.len() - numerator.trim_start_matches(|c: char| c.is_ascii_digit()).len());
    let good = (is_factor(factor) || factor.is_empty() && !digits.is_empty()) && is_factor(denominator);
    good.then(|| (numerator, denominator, &text[second + 1..]))
}

/// A number, one letter, or one command with its digit or its argument in braces.
fn is_factor(text: &str) -> bool {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        return true;
    }
    let mut chars = text.chars();
    if let (Some(only), None) = (chars.next(), chars.next()) {
        return only.is_alphabetic();
    }
    let Some(command) = text.strip_prefix('\\') else { return false };
    let argument = command.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let braced = argument.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    argument.is_empty()
        || argument.chars().all(|c| c.is_ascii_digit())
        || braced.is_some_and(|inner| !inner.contains(['{', '}']))
}
