//! Where an answer may stand in a text, in the order in which the places are tried.

use std::ops::Range;

use super::super::extract::{Boxed, FINAL_MARKERS, MARKERS, after_hashes, after_marker, boxes, last_quantity};
use super::super::number::last_number;
use super::super::tail;

/// Longer texts are prose, not answers.
const MAX_BYTES: usize = 500;

/// How many boxes or formulas that stand beside each other are taken for one list.
const MAX_JOINED: usize = 32;

/// A text that may be the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub text: String,
    pub standing: Standing,
}

/// What speaks for a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The text says that this is its answer, by words or by a box.
    Announced,
    /// The text is nothing but this formula.
    Formula,
    /// The text, or the last that could be an answer in it.
    Prose,
}

/// The candidates of a text: "final answer is … I hope", "final answer is", the last box with those joined to it,
/// "answer is", `####`, the text as a whole, and of the last formula (with those joined to it) and the last number the
/// one that stands behind the other.
pub(super) fn candidates(text: &str) -> Vec<Candidate> {
    let text = &unescaped(tail(text));
    let lower = text.to_ascii_lowercase();
    let mut found = Found::default();
    if let Some(phrase) = hoped(text, &lower) {
        found.phrase(phrase);
    }
    if let Some(phrase) = after_marker(text, &lower, &FINAL_MARKERS) {
        found.phrase(phrase);
    }
    if let Some(boxed) = joined_boxes(text) {
        found.push(boxed, Standing::Announced);
    }
    if let Some(phrase) = after_marker(text, &lower, &MARKERS) {
        found.phrase(phrase);
    }
    if let Some(line) = after_hashes(text) {
        found.push(line.to_owned(), Standing::Announced);
    }
    if text.trim().len() <= MAX_BYTES {
        let standing = if is_formula(text.trim()) { Standing::Formula } else { Standing::Prose };
        found.push(text.trim().to_owned(), standing);
    }
    let formula = last_formulas(text);
    let number = last_quantity(text);
    // A number behind every formula is what the text comes to.
    let behind = number.is_some_and(|_| last_number(text).is_some_and(|range| range.start >= formulas_end(text)));
    let number = number.map(str::to_owned);
    let last = if behind { [number, formula] } else { [formula, number] };
    for text in last.into_iter().flatten() {
        found.push(text, Standing::Prose);
    }
    found.0
}

#[derive(Default)]
struct Found(Vec<Candidate>);

impl Found {
    fn push(&mut self, text: String, standing: Standing) {
        if !text.trim().is_empty() {
            self.0.push(Candidate { text, standing });
        }
    }

    /// A phrase, the formula in it, and its number where it has no other.
    fn phrase(&mut self, phrase: &str) {
        // "The answer is as follows:" announces what stands elsewhere.
        if phrase.ends_with(':') || ["follows", "below"].iter().any(|word| phrase.contains(word)) {
            return;
        }
        self.push(phrase.to_owned(), Standing::Announced);
        if is_formula(phrase) {
            return;
        }
        if let Some(formula) = last_formulas(phrase) {
            self.push(formula, Standing::Announced);
        }
        let denied =
            phrase.contains("n't ") || phrase.split([' ', ',']).any(|word| matches!(word, "not" | "never" | "no"));
        if let Some(range) = last_number(phrase)
            && last_number(&phrase[..range.start]).is_none()
            && !denied
        {
            self.push(phrase[range].to_owned(), Standing::Announced);
        }
    }
}

/// What stands in "final answer is … I hope", the last of these.
fn hoped<'a>(text: &'a str, lower: &str) -> Option<&'a str> {
    let mut ends = FINAL_MARKERS.iter().filter_map(|marker| {
        // The last marker before the last hope; the space between is looked through once.
        let hope = lower.rfind("i hope")?;
        lower[..hope].rfind(marker).map(|at| (at + marker.len(), hope))
    });
    let first = ends.next();
    let (start, end) = ends.fold(first, |best, found| best.max(Some(found)))?;
    let phrase = text[start..end].trim().trim_end_matches('.').trim_start_matches([':', '*', ' ']).trim();
    (!phrase.is_empty() && phrase.len() <= MAX_BYTES).then_some(phrase)
}

/// The content of the last box. Boxes beside each other (`\boxed{1} and \boxed{2}`) are one list.
fn joined_boxes(text: &str) -> Option<String> {
    let found = boxes(text);
    let mut chain: Vec<&Boxed> = vec![found.last()?];
    for before in found.iter().rev().skip(1) {
        let next = chain.last()?.whole.start;
        if before.whole.end > next {
            continue;
        }
        if chain.len() == MAX_JOINED || !joins(&text[before.whole.end..next]) {
            break;
        }
        chain.push(before);
    }
    chain.reverse();
    let mut contents: Vec<String> = Vec::new();
    for boxed in &chain {
        let name = if chain.len() > 1 { name_before(&text[..boxed.whole.start]) } else { "" };
        contents.push(format!("{name}{}", text[boxed.inside.clone()].trim()));
    }
    let after = text[chain.last()?.whole.end..].trim_start_matches(['$', ' ', '\\', ')', ']']);
    let percent = ["%", "percent", "pct"].iter().any(|sign| after.starts_with(sign));
    let sign = if percent && chain.len() == 1 { "%" } else { "" };
    Some(format!("{}{sign}", contents.join(", ")))
}

/// The last formula between math delimiters, with those that a comma or a word joins to it.
fn last_formulas(text: &str) -> Option<String> {
    let formulas = formulas(text);
    let mut chain: Vec<&(Range<usize>, Range<usize>)> = vec![formulas.last()?];
    for before in formulas.iter().rev().skip(1) {
        let between = &text[before.0.end..chain.last()?.0.start];
        if chain.len() == MAX_JOINED || between.trim().is_empty() || !joins(between) {
            break;
        }
        chain.push(before);
    }
    chain.reverse();
    let contents: Vec<&str> = chain.iter().map(|(_, inside)| text[inside.clone()].trim()).collect();
    let joined = contents.join(", ");
    (!joined.trim().is_empty()).then_some(joined)
}

/// Whether a text holds no prose: it is one formula between its delimiters, or has no word outside commands. `dx` is
/// none.
fn is_formula(text: &str) -> bool {
    if let [(whole, _)] = formulas(text).as_slice()
        && whole.len() == text.len()
    {
        return true;
    }
    let is_word = |word: &str| {
        let word = word.trim_end_matches(['.', ',', ':', ';', '!', '?']);
        word.len() > 1 && word.chars().all(char::is_alphabetic) && !(word.len() == 2 && word.starts_with('d'))
    };
    if text.split_whitespace().any(is_word) {
        return false;
    }
    let mut letters = 0;
    let mut in_command = false;
    for c in text.chars() {
        letters = if c.is_alphabetic() { letters + 1 } else { 0 };
        in_command = c == '\\' || in_command && c.is_ascii_alphabetic();
        if letters >= 3 && !in_command {
            return false;
        }
    }
    true
}

/// Where the last formula ends.
fn formulas_end(text: &str) -> usize {
    formulas(text).last().map_or(0, |(whole, _)| whole.end)
}

/// Every formula with its delimiters and without, in one pass.
fn formulas(text: &str) -> Vec<(Range<usize>, Range<usize>)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, &str)> = None;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        let delimiter =
            ["$$", "$", "\\(", "\\)", "\\[", "\\]"].into_iter().find(|sign| rest.starts_with(sign.as_bytes()));
        let Some(sign) = delimiter else {
            // An escaped dollar is money.
            at += if rest.starts_with(b"\\$") { 2 } else { 1 };
            continue;
        };
        match open {
            Some((start, close)) if sign == close || close == "$" && sign == "$$" => {
                found.push((start..at + close.len(), start + close.len()..at));
                open = None;
                at += close.len();
                continue;
            }
            None => {
                open = match sign {
                    "\\(" => Some((at, "\\)")),
                    "\\[" => Some((at, "\\]")),
                    "$" | "$$" => Some((at, sign)),
                    _ => None,
                };
            }
            Some(_) => {}
        }
        at += sign.len();
    }
    found.retain(|(_, inside)| text.get(inside.clone()).is_some_and(|inside| !inside.trim().is_empty()));
    found
}

/// Longer texts between two boxes join nothing.
const MAX_BETWEEN_BYTES: usize = 80;

/// Whether a text between two boxes joins them: punctuation, "and" and "or", words set as text within the formula, and
/// the name of what the second box holds.
fn joins(between: &str) -> bool {
    if between.len() > MAX_BETWEEN_BYTES {
        return false;
    }
    let mut rest = between;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '$' | ',' | ';' | '&'));
        if rest.is_empty() {
            return true;
        }
        let words = ["and", "or", "\\quad", "\\qquad", "\\(", "\\)", "\\[", "\\]", "\\,", "\\;", "\\ "];
        if let Some(after) = words.iter().find_map(|word| rest.strip_prefix(word)) {
            // "android" begins with no conjunction.
            if after.starts_with(char::is_alphabetic) && !rest.starts_with('\\') {
                return false;
            }
            rest = after;
        } else if let Some((_, after)) = rest.strip_prefix("\\text{").and_then(|inner| inner.split_once('}')) {
            rest = after;
        } else {
            return !name_before(rest).is_empty() && name_before(rest).len() >= rest.len();
        }
    }
}

/// `y_2 = ` at the end of a text, or nothing.
fn name_before(text: &str) -> &str {
    let Some(before) = text.trim_end().strip_suffix('=') else { return "" };
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '{' | '}' | '\'' | '(' | ')');
    let name = before.trim_end();
    let start = name.rfind(|c| !part(c)).map_or(0, |at| at + name[at..].chars().next().map_or(1, char::len_utf8));
    let starts = name[start..].starts_with(|c: char| c.is_ascii_alphabetic());
    if starts && name.len() - start <= 16 { &text[start..] } else { "" }
}

/// Commands whose backslash is doubled where a text went through one escaping too many.
const DOUBLED: [&str; 24] = [
    "boxed", "fbox", "frac", "dfrac", "tfrac", "left", "right", "text", "textbf", "mathrm", "sqrt", "le", "leq", "ge",
    "geq", "cup", "pi", "infty", "cdot", "times", "pm", "in", "begin", "end",
];

/// The text with `\\frac` as `\frac`, in one pass. Between the rows of a matrix, where both backslashes are meant, a
/// command has a third.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let after = rest.trim_start_matches('\\');
        let backslashes = rest.len() - after.len();
        let name = &after[..after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len())];
        let kept = if backslashes == 2 && DOUBLED.contains(&name) { 1 } else { backslashes };
        plain.push_str(&rest[..kept]);
        rest = after;
    }
    plain.push_str(rest);
    plain
}
