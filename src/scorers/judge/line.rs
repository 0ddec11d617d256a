//! JSON on one line that is what it looks like.

use std::fmt::Write;

use serde_json::Value;

/// A value as one line of JSON in which no character does anything but stand there: whatever controls the display or
/// cannot be seen is escaped, and so is the bracket of what looks like a tag or a marker of a chat template, which a
/// server may read as one wherever it stands.
pub(super) fn one_line(value: &Value) -> String {
    let plain = value.to_string();
    let mut line = String::with_capacity(plain.len());
    let mut chars = plain.chars().peekable();
    while let Some(char) = chars.next() {
        let next = chars.peek().copied();
        let acts = match char {
            '<' => next.is_some_and(|next| next.is_alphabetic() || matches!(next, '|' | '｜' | '/' | '!' | '?' | '\\')),
            // JSON's own brackets are followed by neither.
            '[' => next.is_some_and(|next| next.is_ascii_uppercase() || next == '/'),
            char => is_unseen(char),
        };
        if acts {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(char);
        }
    }
    line
}

/// How many characters this one takes in such a line, but for brackets.
pub(super) fn width(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        char if is_unseen(char) => 6 * char.len_utf16(),
        _ => 1,
    }
}

/// Characters that leave no mark of their own: controls, separators of lines, marks of direction, and all that Unicode
/// calls default ignorable (`DerivedCoreProperties`, 16.0), such as joiners, fillers, selectors of variants and tags; also
/// the empty pattern of Braille and the marks of annotations.
fn is_unseen(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_character_is_there_without_being_seen() {
        let ranges = [
            0..=0x1f,
            0x7f..=0x9f,
            0xad..=0xad,
            0x34f..=0x34f,
            0x61c..=0x61c,
            0x115f..=0x1160,
            0x17b4..=0x17b5,
            0x180b..=0x180f,
            0x200b..=0x200f,
            0x2028..=0x202e,
            0x2060..=0x206f,
            0x2800..=0x2800,
            0x3164..=0x3164,
            0xfe00..=0xfe0f,
            0xfeff..=0xfeff,
            0xffa0..=0xffa0,
            0xfff0..=0xfffb,
            0x1bca0..=0x1bca3,
            0x1d173..=0x1d17a,
            0xe0000..=0xe0fff,
        ];
        for char in ranges.into_iter().flatten().filter_map(char::from_u32) {
            let text = format!("a{char}b");
            let line = one_line(&json!(text));
            assert!(line.is_ascii() && line.starts_with("\"a\\") && line.ends_with("b\""), "{:x}", u32::from(char));
            assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
        for text in ["é", "你好", "\u{1f600}", "नमस्ते", "a < b", "𝑥²", "…"] {
            assert_eq!(one_line(&json!(text)), format!("\"{text}\""));
        }
    }

    #[test]
    fn the_width_of_a_text_is_how_long_its_line_is() {
        for text in ["plain", "a\nb\t\"c\"\\", "\u{1}\u{7f}\u{202e}\u{e0041}", "é你\u{1f600}\u{fe0f}"] {
            let line = one_line(&json!(text));
            let width: usize = text.chars().map(width).sum();
            assert!(width >= line.chars().count() - 2, "{text:?}");
        }
    }
}
