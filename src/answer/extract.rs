//! Finding the answer in a candidate's text.
//!
//! In this order: the last balanced `\boxed{}` or `\fbox{}`, what follows "final answer is", what follows
//! "answer is" or "answer:", what follows `####`, and the last number. An unclosed box does not count.

use std::ops::Range;

use super::number::last_number;
use super::rational::rational;
use super::tail;
use super::units::{after_part, scale};

/// A longer phrase after a marker is prose, not an answer.
const MAX_PHRASE_BYTES: usize = 200;

/// What announces the final answer, and what announces any.
pub(super) const FINAL_MARKERS: [&str; 4] = ["final answer is", "final answer:", "final answer**:", "final answer:**"];
pub(super) const MARKERS: [&str; 3] = ["answer is", "answer:", "answer**:"];

/// The answer that a text gives, as it is written there. `None` when it gives none.
///
/// Takes time linear in the text, of which the last 256 KiB are read.
pub fn extract(text: &str) -> Option<&str> {
    let text = tail(text);
    if let Some(boxed) = last_boxed(text) {
        return Some(boxed);
    }
    // Lower case of ASCII alone keeps every byte where it is.
    let lower = text.to_ascii_lowercase();
    after_marker(text, &lower, &FINAL_MARKERS)
        .or_else(|| after_marker(text, &lower, &MARKERS))
        .or_else(|| after_hashes(text))
        .or_else(|| last_quantity(text))
}

/// The content of the last `\boxed{…}` or `\fbox{…}` whose braces balance and that holds something.
pub(super) fn last_boxed(text: &str) -> Option<&str> {
    boxes(text).pop().map(|found| text[found.inside].trim())
}

/// A box: from its command to its closing brace, and what is inside.
#[derive(Debug, Clone)]
pub(super) struct Boxed {
    pub whole: Range<usize>,
    pub inside: Range<usize>,
}

/// The boxes whose braces balance and that hold something, in the order in which they open, in one pass.
pub(super) fn boxes(text: &str) -> Vec<Boxed> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    if !text.contains("boxed") && !text.contains("\\fbox") {
        return found;
    }
    // A stack of the open braces: where each opened, and where the command of a box began.
    let mut open: Vec<(usize, Option<usize>)> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => {
                let command = at;
                let name = ["\\boxed", "\\fbox"].into_iter().find(|name| text[at..].starts_with(name));
                at += name.map_or(2, str::len);
                if name.is_some() {
                    let spaces = bytes[at.min(bytes.len())..].iter().take_while(|byte| **byte == b' ').count();
                    if bytes.get(at + spaces) == Some(&b'{') {
                        at += spaces + 1;
                        open.push((at, Some(command)));
                    }
                }
            }
            b'{' => {
                at += 1;
                open.push((at, None));
            }
            b'}' => {
                if let Some((start, Some(command))) = open.pop()
                    && text.get(start..at).is_some_and(|content| !content.trim().is_empty())
                {
                    found.push(Boxed { whole: command..at + 1, inside: start..at });
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    found.sort_by_key(|found| found.whole.start);
    found
}

/// What follows the last of any of the markers, up to the end of its sentence or line.
pub(super) fn after_marker<'a>(text: &'a str, lower: &str, markers: &[&str]) -> Option<&'a str> {
    // "The answer isn't" is no marker.
    let ends = |marker: &&str| {
        let mut ends = lower.rmatch_indices(*marker).map(|(at, found)| at + found.len());
        ends.find(|end| !lower[*end..].starts_with(|c: char| c.is_ascii_alphabetic()) || marker.ends_with([':', '*']))
    };
    let end = markers.iter().filter_map(ends).max()?;
    phrase(&text[end..])
}

/// Words between a marker and the answer that say nothing.
const FILLERS: [&str; 18] = [
    "therefore",
    "thus",
    "hence",
    "simply",
    "just",
    "indeed",
    "approximately",
    "approx.",
    "approx",
    "about",
    "roughly",
    "exactly",
    "equal to",
    "given by",
    "clearly",
    "option",
    "choice",
    "the number",
];

/// Words that begin an explanation after the answer.
const EXPLANATIONS: [&str; 13] = [
    " because ",
    " since ",
    ", since ",
    ", as ",
    ", which ",
    ", so ",
    ", because ",
    ", i.e.",
    " (because ",
    " (since ",
    " (as ",
    " — ",
    "; ",
];

/// Words whose point ends no sentence, since a name follows.
const BEFORE_NAMES: [&str; 17] =
    ["capt", "col", "dr", "gen", "gov", "hon", "lt", "mr", "mrs", "ms", "mt", "prof", "rev", "sen", "sgt", "st", "vs"];

/// Words whose point ends no sentence where a number follows.
const BEFORE_NUMBERS: [&str; 9] = ["art", "ca", "ch", "eq", "fig", "no", "nos", "pp", "vol"];

/// The answer at the start of a text that follows a marker.
fn phrase(after: &str) -> Option<&str> {
    let mut start = after.trim_start_matches(|c: char| {
        c.is_whitespace() || matches!(c, ':' | '=' | '>' | '_' | '-' | '*') && !is_sign(c, after)
    });
    while let Some(filler) = FILLERS.iter().find(|filler| starts_with_word(start, filler)) {
        start = start[filler.len()..].trim_start_matches([' ', ',', ':']);
    }
    let delimited = [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("`", "`")];
    for (open, close) in delimited {
        if let Some(inside) = start.strip_prefix(open)
            && let Some(length) = inside.find(close)
            && !inside[..length].trim().is_empty()
            && !inside[..length].contains("\n\n")
        {
            // `$5 and $7` holds prices, not mathematics: whoever opens with a price is read to its end.
            let currency =
                open == "$" && inside[..length].contains(' ') && !inside[..length].contains(['\\', '=', '^', '+']);
            // `$5$ or $6$` gives no single answer.
            let one_of_several = inside[length + close.len()..].trim_start().starts_with("or ");
            if !currency && !one_of_several {
                return Some(inside[..length].trim()).filter(|found| found.len() <= MAX_PHRASE_BYTES);
            }
        }
    }
    let line = &start[..start.find('\n').unwrap_or(start.len())];
    let mut end = line.len();
    for explanation in EXPLANATIONS {
        if let Some(at) = line[..end].find(explanation) {
            end = at;
        }
    }
    end = end_of_sentence(&line[..end]);
    let found = line[..end].trim().trim_end_matches(['.', '*', ' ']);
    (!found.is_empty() && found.len() <= MAX_PHRASE_BYTES).then_some(found)
}

/// Where the first sentence of a line ends: at its first point before a space that belongs to no abbreviation.
fn end_of_sentence(line: &str) -> usize {
    let is_one_of = |words: &[&str], word: &str| words.iter().any(|known| known.eq_ignore_ascii_case(word));
    let ends = |(at, _): &(usize, &str)| {
        let word = line[..*at].rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let after = line[at + 1..].trim_start();
        let is_abbreviation = is_one_of(&BEFORE_NAMES, word) && !after.is_empty()
            || is_one_of(&BEFORE_NUMBERS, word) && after.starts_with(|c: char| c.is_ascii_digit());
        !is_abbreviation
    };
    line.match_indices(". ").find(ends).map_or(line.len(), |(at, _)| at)
}

/// Whether a minus after a marker belongs to a number instead of to a list or a rule.
fn is_sign(c: char, after: &str) -> bool {
    c == '-'
        && after
            .split_once('-')
            .is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '$' | '\\')))
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
        && text[word.len()..].starts_with([' ', ',', ':'])
}

/// What follows the last `####`, as in GSM8K. Markdown's headings of the fourth level begin the same way, so
/// it counts only as a number or on the last line.
pub(super) fn after_hashes(text: &str) -> Option<&str> {
    let after = &text[text.rfind("####")? + 4..];
    let (line, rest) = after.split_once('\n').unwrap_or((after, ""));
    let line = line.trim().trim_end_matches('.');
    let number = rational(line.trim_start_matches(['$', '€', '£'])).is_some();
    let usable = !line.is_empty() && line.len() <= MAX_PHRASE_BYTES && (number || rest.trim().is_empty());
    usable.then_some(line)
}

/// The last number, with its percent sign or words of scale and parts (`5 million`, `3 quarters`). A time, a ratio and a date (`3:45`,
/// `1/2/2024`) are taken as one.
pub(super) fn last_quantity(text: &str) -> Option<&str> {
    let range = last_number(text)?;
    let sign = ["%", "\\%", " %", " \\%", " percent"]
        .into_iter()
        .find(|sign| text[range.end..].starts_with(sign))
        .map_or(0, str::len);
    let after = &text[range.end..];
    let end = match scale(after).map(|(_, rest)| rest).or_else(|| after_part(after)) {
        Some(rest) if sign == 0 => text.len() - rest.len(),
        _ => range.end + sign,
    };
    let joined = text[..range.start].trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, ':' | '/'));
    let before = &text[joined.len()..range.start];
    let start = if before.ends_with([':', '/']) && before.starts_with(|c: char| c.is_ascii_digit()) {
        joined.len()
    } else {
        range.start
    };
    Some(&text[start..end])
}

#[cfg(test)]
mod tests {
    use super::super::READ_BYTES;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_balanced_box_comes_first() {
        for (text, expected) in [
            ("first \\boxed{1}, then \\boxed{2}. The answer is 3.", "2"),
            ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
            ("\\boxed{5} and an unclosed \\boxed{6", "5"),
            ("\\boxed{\\boxed{7}}", "7"),
            ("\\fbox{ yes }", "yes"),
            ("\\boxed {8}", "8"),
            ("a \\} stray \\{ brace \\boxed{\\{1,2\\}}", "\\{1,2\\}"),
            ("\\boxed{9} \\boxed{}", "9"),
        ] {
            assert_eq!(extract(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn markers_come_before_the_last_number() {
        for (text, expected) in [
            ("The final answer is 5. I hope it is correct. See 7.", "5"),
            ("The answer is 42.", "42"),
            ("the ANSWER IS: $12$ (see step 3)", "12"),
            ("**Answer:** Paris", "Paris"),
            ("Final Answer: The final answer is $\\frac{1}{2}$. I hope it is correct.", "\\frac{1}{2}"),
            ("The answer is **17**\n\nChecked 3 times.", "17"),
            ("Answer:\n\n42", "42"),
            ("The answer is -5.", "-5"),
            ("The answer is therefore approximately 3.14.", "3.14"),
            ("The answer is 5 because 2 + 3 = 5.", "5"),
            ("The answer is $5", "$5"),
            ("The answer is 5 (because 2 + 3 = 5).", "5"),
            ("The answer is \"Blue\".", "\"Blue\""),
            ("The answer is 1,200.", "1,200"),
            ("some steps\n#### 18", "18"),
            ("some steps\n#### 1,800\n", "1,800"),
            ("#### Conclusion\nSo there are 12 of them.", "12"),
            ("3 + 4 = 7", "7"),
            ("that is 50%.", "50%"),
        ] {
            assert_eq!(extract(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn the_point_of_an_abbreviation_ends_no_answer() {
        for (text, expected) in [
            ("The answer is approx. 12. It is rounded.", "12"),
            ("The answer is approx 12.", "12"),
            ("Answer: St. Louis. It lies on a river.", "St. Louis"),
            ("The answer is Dr. Smith.", "Dr. Smith"),
            ("The answer is Prof. Dr. Smith. He said so.", "Prof. Dr. Smith"),
            ("The answer is no. 5. All others fail.", "no. 5"),
            ("The answer is No. The others agree.", "No"),
            ("The answer is B. Mr. Hyde is not named.", "B"),
            ("The answer is the 1st. Nobody else came.", "the 1st"),
            ("The answer is (a, b). Check it.", "(a, b)"),
            ("The answer is 5. See fig. 3.", "5"),
            ("The answer is Paris. That is all.", "Paris"),
            ("The answer is Mt. ", "Mt"),
        ] {
            assert_eq!(extract(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn prose_without_a_number_has_no_answer() {
        assert_eq!(extract("Roses are red, violets are blue."), None);
        assert_eq!(extract(""), None);
        assert_eq!(extract("The answer is"), None);
        let essay = format!("The answer is {}", "that nobody knows it, ".repeat(40));
        assert_eq!(extract(&essay), None);
    }

    #[test]
    fn hostile_text_is_read_in_one_pass() {
        let unclosed = "\\boxed{".repeat(50_000);
        assert_eq!(extract(&unclosed), None);
        let nested = format!("{}7{}", "\\boxed{".repeat(10_000), "}".repeat(10_000));
        assert_eq!(extract(&nested), Some("7"));
        let markers = "answer is ".repeat(50_000);
        let _ = extract(&markers);
    }

    #[test]
    fn no_more_than_the_end_of_a_text_is_read() {
        let filler = "x".repeat(READ_BYTES);
        assert_eq!(extract(&format!("\\boxed{{1}} {filler}")), None);
        assert_eq!(extract(&format!("{filler} \\boxed{{1}}")), Some("1"));
        // A cut within a character moves to the next.
        assert_eq!(extract(&format!("é{} 7", "é".repeat(READ_BYTES / 2))), Some("7"));
    }

    #[test]
    fn every_box_is_found_in_one_pass() {
        let nested = format!("{}7{}", "\\boxed{".repeat(10_000), "}".repeat(10_000));
        let found = boxes(&nested);
        assert_eq!(found.len(), 10_000);
        assert!(found.windows(2).all(|pair| pair[0].whole.end > pair[1].whole.end));
    }

    proptest! {
        #[test]
        fn no_text_makes_extraction_panic(text in "(\\\\boxed\\{|answer is|final answer:|####|[-0-9.,$\\\\{}\\n* ]|.){0,30}") {
            let _ = extract(&text);
        }

        #[test]
        fn a_title_stays_with_its_name_and_the_next_sentence_goes(
            title in prop::sample::select(BEFORE_NAMES.to_vec()),
            name in "[A-Z][a-z]{5,9}",
        ) {
            let text = format!("The answer is {title}. {name}. The rest is prose.");
            prop_assert_eq!(extract(&text).map(str::to_owned), Some(format!("{title}. {name}")));
        }
    }
}
