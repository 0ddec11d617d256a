//! Taking off what an answer is dressed in: math delimiters, type and spacing commands, currency, quotation marks.

use super::rational::rational;

/// What the end of a matrix's row (`\\`) becomes: white space to all but the reader of expressions.
pub(super) const ROW_END: char = '\u{2028}';

/// Commands that only set the type; their argument stays.
const TYPE_COMMANDS: [&str; 15] = [
    "text",
    "textbf",
    "textit",
    "textrm",
    "textnormal",
    "mbox",
    "mathrm",
    "mathbf",
    "mathit",
    "mathsf",
    "operatorname",
    "boxed",
    "fbox",
    "boldsymbol",
    "bm",
];

/// Commands that only set size or space; nothing stays of them.
const SPACE_COMMANDS: [&str; 14] = [
    "left",
    "right",
    "big",
    "Big",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "displaystyle",
    "textstyle",
    "quad",
    "qquad",
    "limits",
    "mathstrut",
];

/// Takes off the dress: math delimiters, sizes, spacing, type commands, currency, degrees and emphasis.
pub(super) fn undress(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    // For every open brace, whether it belongs to a type command and leaves a space instead of itself.
    let mut braces: Vec<bool> = Vec::new();
    let matrix = text.contains("\\begin{");
    let mut rest = text;
    while let Some(written) = rest.chars().next() {
        let first = half_width(written);
        if first == '\\' {
            let name_end = rest[1..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |length| length + 1);
            let name = &rest[1..name_end];
            if name.is_empty() {
                let escaped = rest[1..].chars().next();
                rest = &rest[1 + escaped.map_or(0, char::len_utf8)..];
                match escaped {
                    Some('%') => plain.push('%'),
                    Some(brace @ ('{' | '}')) => plain.extend(['\\', brace]),
                    Some('\\') if matrix => plain.push(ROW_END),
                    Some(' ' | '\\' | '\n') => plain.push(' '),
                    // `32,\! 349`: the space is there for the eye alone.
                    Some('!') => rest = rest.trim_start_matches(' '),
                    // Math delimiters, thin spaces and escaped currency leave nothing.
                    Some('(' | ')' | '[' | ']' | ',' | ';' | ':' | '$') | None => {}
                    Some(other) => plain.push(other),
                }
                continue;
            }
            rest = &rest[name_end..];
            match name {
                "dfrac" | "tfrac" | "cfrac" | "frac" => plain.push_str("\\frac"),
                "times" | "cdot" => plain.push('×'),
                "approx" | "simeq" => plain.push('='),
                "circ" | "degree" => drop_degree(&mut plain, &mut rest, &mut braces),
                name if SPACE_COMMANDS.contains(&name) => {}
                name if TYPE_COMMANDS.contains(&name) => {
                    plain.push(' ');
                    if let Some(inner) = rest.trim_start().strip_prefix('{') {
                        braces.push(true);
                        rest = inner;
                    }
                }
                name => {
                    plain.push('\\');
                    plain.push_str(name);
                }
            }
            continue;
        }
        rest = &rest[written.len_utf8()..];
        match first {
            '{' if rest.starts_with(",}") => {
                plain.push(',');
                rest = &rest[2..];
            }
            '{' => {
                braces.push(false);
                plain.push('{');
            }
            '}' => plain.push(if braces.pop() == Some(true) { ' ' } else { '}' }),
            '$' if plain.ends_with("US") => plain.truncate(plain.len() - "US".len()),
            '$' | '€' | '£' | '¥' | '₹' | '`' => {}
            // What follows is a unit, not glued to the number.
            '°' => plain.push(' '),
            // Invisible characters say nothing.
            '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}' => {}
            '*' if rest.starts_with('*') => rest = &rest[1..],
            '⁰' | '¹' | '²' | '³' | '⁴'..='⁹' | '⁻' => {
                let more = rest.find(|c| superscript(c).is_none()).unwrap_or(rest.len());
                plain.push_str("^{");
                plain.extend(std::iter::once(first).chain(rest[..more].chars()).filter_map(superscript));
                plain.push('}');
                rest = &rest[more..];
            }
            '½' | '⅓' | '⅔' | '¼' | '¾' => {
                if plain.ends_with(|c: char| c.is_ascii_digit()) {
                    plain.push(' ');
                }
                plain.push_str(match first {
                    '½' => "1/2",
                    '⅓' => "1/3",
                    '⅔' => "2/3",
                    '¼' => "1/4",
                    _ => "3/4",
                });
            }
            '≈' => plain.push('='),
            '⋅' | '·' => plain.push('×'),
            '−' | '﹣' | '–' | '‐' | '‑' | '‒' => plain.push('-'),
            // No-break and thin spaces separate thousands.
            '\u{a0}' | '\u{2009}' | '\u{202f}'
                if plain.ends_with(|c: char| c.is_ascii_digit()) && rest.starts_with(|c: char| c.is_ascii_digit()) => {}
            other if other.is_whitespace() || other == '~' => plain.push(' '),
            other => plain.push(other),
        }
    }
    plain
}

/// The ASCII character that a superscript raises.
pub(super) fn superscript(c: char) -> Option<char> {
    match c {
        '⁰' => Some('0'),
        '¹' => Some('1'),
        '²' => Some('2'),
        '³' => Some('3'),
        '⁴'..='⁹' => char::from_digit(c as u32 - '⁴' as u32 + 4, 10),
        '⁻' => Some('-'),
        _ => None,
    }
}

/// The ASCII character that a full-width character or another script's digit stands for, else the character
/// itself. Full-width forms of what LaTeX reads as commands stay.
fn half_width(c: char) -> char {
    let code = c as u32;
    let ascii = match c {
        '＄' | '＼' | '｛' | '｝' => None,
        '！'..='～' => char::from_u32(code - '！' as u32 + '!' as u32),
        '٠'..='٩' => char::from_digit(code - '٠' as u32, 10),
        '۰'..='۹' => char::from_digit(code - '۰' as u32, 10),
        '०'..='९' => char::from_digit(code - '०' as u32, 10),
        _ => None,
    };
    ascii.unwrap_or(c)
}

/// Drops `^` or `^{` before a degree sign, and the brace after it.
fn drop_degree(plain: &mut String, rest: &mut &str, braces: &mut Vec<bool>) {
    if plain.ends_with("^{") {
        plain.truncate(plain.len() - 2);
        braces.pop();
        *rest = rest.trim_start().strip_prefix('}').unwrap_or(rest);
    } else if plain.ends_with('^') {
        plain.pop();
    }
    plain.push(' ');
}

/// Takes off white space, closing punctuation, quotation marks, and brackets around a lone letter or number.
pub(super) fn trim(text: &str) -> &str {
    let mut text = text.trim_start_matches(['=', ':', ' ']).trim();
    loop {
        let before = text.len();
        text = text.trim_end_matches(['.', ',', ';', ':', '?', '。']).trim();
        text = text.strip_suffix('!').filter(|rest| !has_factorial(rest)).unwrap_or(text);
        for (open, close) in [
            ('"', '"'),
            ('\'', '\''),
            ('*', '*'),
            ('_', '_'),
            ('“', '”'),
            ('‘', '’'),
            ('{', '}'),
            ('(', ')'),
            ('[', ']'),
        ] {
            if let Some(inner) = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)) {
                let inner = inner.trim();
                let lone = inner.chars().nth(1).is_none() || rational(inner).is_some();
                if open == close || matches!(open, '“' | '‘') || lone && !inner.contains(',') {
                    text = inner;
                }
            }
        }
        if text.len() == before {
            return text;
        }
    }
}

/// Whether a `!` after the text is a factorial: after a number, a bracket or a lone variable.
fn has_factorial(text: &str) -> bool {
    let mut last = text.chars().rev();
    match last.next() {
        Some(c) if c.is_ascii_lowercase() => !last.next().is_some_and(char::is_alphabetic),
        Some(c) => c.is_numeric() || c == ')',
        None => false,
    }
}
