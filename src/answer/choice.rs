//! Finding the letter of the option that a text chooses.

use super::extract::last_boxed;
use super::tail;

/// The option letter that a text chooses, in upper case. `None` when it names none, or where its answer names
/// several (`A and B`), which is no vote for the first of them.
///
/// In this order: the last box; the letter after the last "answer" that one follows (`The answer is (B)`,
/// `Answer: b`); the whole text, its last line, or the head of its first line (`B.`, `**B**`, `(B) Paris`);
/// the letter after "choose", "option" and their like, or before "is correct"; the last letter in brackets;
/// the last lone letter from B to H (A and I are words).
pub fn choice(text: &str) -> Option<char> {
    let text = tail(text);
    found(text).filter(|letter| *letter != SEVERAL)
}

/// Stands for several letters where one is looked for, so that the search ends there.
const SEVERAL: char = '\0';

fn found(text: &str) -> Option<char> {
    last_boxed(text)
        .and_then(whole)
        .or_else(|| after_words(text, &["answer"]))
        .or_else(|| whole(text))
        .or_else(|| text.lines().rev().find(|line| !line.trim().is_empty()).and_then(whole))
        .or_else(|| head(text))
        .or_else(|| after_words(text, &["choose", "pick", "select", "go with"]))
        .or_else(|| before_words(text))
        .or_else(|| after_words(text, &["option", "choice"]))
        .or_else(|| {
            last_standing(text, |before, _, after| {
                matches!((before, after), (Some('('), Some(')')) | (Some('['), Some(']')))
            })
        })
        .or_else(|| {
            last_standing(text, |before, letter, after| {
                let apart = |side: Option<char>| !side.is_some_and(|c| matches!(c, '\'' | '’' | '.' | '-'));
                ('B'..='H').contains(&letter) && apart(before) && !matches!(after, Some('\'' | '’' | '-' | ')'))
            })
        })
}

/// Characters that may stand around a letter without saying anything.
fn is_dress(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '*' | '_' | '(' | ')' | '[' | ']' | '{' | '}' | '"' | '\'' | '`' | '$' | ':' | '.' | ',' | ';' | '!' | '\\'
        )
}

/// The letter where the text is nothing but it, its dress and a LaTeX type command.
fn whole(text: &str) -> Option<char> {
    if text.len() > 200 {
        return None;
    }
    let mut letter = None;
    let words = text.split(is_dress).filter(|word| !word.is_empty());
    for word in words.filter(|word| {
        !matches!(*word, "text" | "textbf" | "mathrm" | "mathbf" | "boxed" | "mbox" | "Option" | "option")
    }) {
        let mut chars = word.chars();
        match (letter, chars.next(), chars.next()) {
            (None, Some(only), None) if only.is_ascii_alphabetic() => letter = Some(only.to_ascii_uppercase()),
            (Some(first), Some(only @ 'A'..='H'), None) if first != only => letter = Some(SEVERAL),
            (Some(_), ..) if matches!(word, "and" | "or" | "&" | "/") => {}
            _ => return None,
        }
    }
    letter
}

/// Words that may stand between "answer" and its letter.
const BETWEEN: [&str; 24] = [
    "is",
    "are",
    "be",
    "would",
    "should",
    "must",
    "the",
    "correct",
    "best",
    "right",
    "option",
    "choice",
    "answer",
    "letter",
    "therefore",
    "thus",
    "hence",
    "clearly",
    "definitely",
    "most",
    "likely",
    "text",
    "textbf",
    "boxed",
];

/// How far behind a word its letter may stand.
const MAX_DISTANCE_CHARS: usize = 120;

/// The letter after the last of the words that one follows.
fn after_words(text: &str, words: &[&str]) -> Option<char> {
    let lower = text.to_ascii_lowercase();
    let mut found: Option<(usize, char)> = None;
    for word in words {
        let letter = lower.rmatch_indices(word).find_map(|(at, _)| Some((at, following(&text[at + word.len()..])?)));
        found = found.max(letter);
    }
    found.map(|(_, letter)| letter)
}

/// The letter that a text begins with, after a few words that say nothing.
fn following(after: &str) -> Option<char> {
    // A letter further away belongs to something else, and without a limit the search would be quadratic.
    let near = after.char_indices().nth(MAX_DISTANCE_CHARS).map_or(after, |(end, _)| &after[..end]);
    // "answers" and "options" speak of several.
    if near.starts_with(char::is_alphanumeric) {
        return None;
    }
    let mut rest = near;
    for _ in 0..8 {
        let start = rest.trim_start_matches(|c: char| is_dress(c) || matches!(c, '=' | '-' | '>' | '–' | '—'));
        let marked = rest[..rest.len() - start.len()].contains(['(', '[', '{', '*', '"', '\'', '`', '$', ':']);
        let length = start.find(|c: char| !c.is_alphanumeric()).unwrap_or(start.len());
        let (word, next) = start.split_at(length);
        let mut chars = word.chars();
        if let (Some(letter), None) = (chars.next(), chars.next()) {
            if letter.is_ascii_uppercase() && another(next) {
                return Some(SEVERAL);
            }
            return stands(letter, next, marked).then_some(letter.to_ascii_uppercase());
        }
        if !BETWEEN.iter().any(|between| word.eq_ignore_ascii_case(between)) {
            return None;
        }
        rest = next;
    }
    None
}

/// Whether a letter is joined to another: `A and B`, `(A), (C)`, `A/B`.
fn another(next: &str) -> bool {
    let next = next.trim_start_matches(|c: char| is_dress(c) && !matches!(c, ',' | '.' | ':' | ';' | '\n'));
    let joined =
        ["and ", "or ", "& ", "/", ", and ", ", or ", ","].into_iter().find_map(|join| next.strip_prefix(join));
    let Some(rest) = joined.map(|rest| rest.trim_start_matches(|c: char| is_dress(c) && c != '\n')) else {
        return false;
    };
    let rest = rest.strip_prefix("or ").or_else(|| rest.strip_prefix("and ")).unwrap_or(rest);
    let rest = rest.trim_start_matches(|c: char| is_dress(c) && c != '\n');
    let apart =
        rest.get(1..).is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '\'' | '’')));
    // "A, I think" and "B, a city" name one.
    let word = rest.starts_with('I') || rest.starts_with('A') && rest[1..].starts_with(' ');
    // "B, C is wrong" goes on to speak of the other.
    let subject = ["is ", "was ", "does ", "cannot ", "fails", "being "];
    let subject = rest.get(1..).is_some_and(|after| subject.iter().any(|verb| after.trim_start().starts_with(verb)));
    rest.starts_with(|c: char| c.is_ascii_uppercase()) && apart && !word && !subject
}

/// Whether a single letter is an option rather than the word "a" or "I", or the start of a contraction.
fn stands(letter: char, next: &str, marked: bool) -> bool {
    // `x = 5` and `O(n)` are formulas.
    let formula = next.trim_start().starts_with(['=', '+', '^', '<', '>']) || next.starts_with(['_', '(']);
    if !letter.is_ascii_alphabetic() || formula || next.starts_with(['\'', '’']) {
        return false;
    }
    let words_follow = next.strip_prefix(' ').is_some_and(|rest| rest.starts_with(char::is_alphanumeric));
    let reason_follows = ["because", "since", "as ", "and ", "due ", "with ", "is "]
        .iter()
        .any(|word| next.trim_start().get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word)));
    let closed = marked && next.starts_with([')', ']', '}', '*', '"', '\'', '`', '$']);
    closed || !words_follow || reason_follows || letter.is_ascii_uppercase() && !matches!(letter, 'A' | 'I')
}

/// The letter that the first line opens with, unless the following lines open with others: then it is the
/// list of options, not a choice.
fn head(text: &str) -> Option<char> {
    let mut openings = text.lines().filter_map(opening);
    let first = text.lines().find(|line| !line.trim().is_empty()).and_then(opening)?;
    openings.all(|letter| letter == first).then_some(first)
}

/// The letter in `B. because`, `(B) Paris`, `**B**: Paris` or `B) Paris`.
fn opening(line: &str) -> Option<char> {
    let start = line.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '(' | '[' | '"' | '`' | '$'));
    let letter = start.chars().next().filter(char::is_ascii_alphabetic)?;
    let next = &start[1..];
    let punctuated = next.starts_with([')', ']', '*', ':'])
        || next.starts_with(". ")
        || next == "."
        || next.starts_with(", ") && letter.is_ascii_uppercase();
    (punctuated && !another(next)).then_some(letter.to_ascii_uppercase())
}

/// The letter in `B is correct` and its like, the last of them.
fn before_words(text: &str) -> Option<char> {
    let one = ["is correct", "is the correct", "is right", "is the right", "is the answer", "is the best"];
    let several = ["are correct", "are both correct", "are right", "are both right", "are the correct"];
    let lower = text.to_ascii_lowercase();
    let mut found: Option<(usize, char)> = None;
    for verdict in one.into_iter().chain(several) {
        let letter = lower.rmatch_indices(verdict).find_map(|(at, _)| {
            let before = text[..at].trim_end_matches(is_dress);
            let letter = before.chars().next_back().filter(char::is_ascii_uppercase)?;
            let apart = !before[..before.len() - 1].ends_with(|c: char| c.is_alphanumeric());
            apart.then_some((at, if verdict.starts_with("are") { SEVERAL } else { letter }))
        });
        found = found.max(letter);
    }
    found.map(|(_, letter)| letter)
}

/// The last upper-case letter that stands alone and whose neighbours pass the test.
fn last_standing(text: &str, fits: impl Fn(Option<char>, char, Option<char>) -> bool) -> Option<char> {
    let mut letters = text.char_indices().rev().filter(|(_, c)| c.is_ascii_uppercase());
    letters.find_map(|(at, letter)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + 1..].chars().next());
        let alone = ![before, after].into_iter().flatten().any(|c| c.is_ascii_alphanumeric());
        (alone && fits(before, letter, after)).then_some(letter)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_usual_ways_of_choosing_are_read() {
        for text in [
            "B",
            "b",
            "B.",
            "(B)",
            "**B**",
            "B) Paris",
            "(B) Paris",
            "B. Paris is the capital",
            "\\boxed{B}",
            "\\boxed{\\text{B}}",
            "\\boxed{\\text{(B)}}",
            "The answer is (B).",
            "The answer is B",
            "Answer: b",
            "answer is b.",
            "**Answer:** B",
            "The correct answer is **B**.",
            "The correct answer is option B because it fits.",
            "I would choose B.",
            "Option B is correct.",
            "A is wrong. C is wrong too. So B is the correct one.",
            "Let me think.\n\nB",
            "It is (B), not a city.",
            "Final answer: $B$",
            "A) no\nB) yes\nThe answer is B",
            "It must be B since nothing else fits.",
            "the answer is: \"B\"",
            "Answer\n\nB",
            "Not A: it fails. Among the options, (B)",
            "Of the options, A is too small and C is too big, so B.",
            "答案是B。",
            "<answer>B</answer>",
        ] {
            assert_eq!(choice(text), Some('B'), "{text}");
        }
    }

    #[test]
    fn the_words_a_and_i_are_no_options() {
        for text in [
            "The answer is a matter of taste.",
            "Answer: x = 5",
            "Answer: O(n)",
            "The answer is I think unknown.",
            "I am a student.",
            "",
            "Paris",
            "A) red\nB) blue\nThat's a list.",
        ] {
            assert_eq!(choice(text), None, "{text}");
        }
        assert_eq!(choice("The answer is A."), Some('A'));
        assert_eq!(choice("The answer is A because it fits."), Some('A'));
        assert_eq!(choice("The answer is (a)."), Some('A'));
    }

    #[test]
    fn several_letters_are_no_choice() {
        for text in [
            "A, B",
            "(A) and (C)",
            "\\boxed{A, C}",
            "\\boxed{\\text{A and B}}",
            "The answer is A and B.",
            "Answer: A or B",
            "Answer: (A), (C)",
            "The answer is A/B",
            "The answer is B, and C.",
            "The answer is **A** and **D**.",
            "Both A and C are correct.",
        ] {
            assert_eq!(choice(text), None, "{text}");
        }
        for text in [
            "The answer is B, I think.",
            "The answer is B and here is why.",
            "Answer: B, not A",
            "Answer: B.\nC is wrong.",
            "The answer is B, because A fails.",
            "B, B",
            "Answer: B, C is wrong",
            "(A) and (C) are wrong so (B)",
            "The answer is B, A being wrong.",
        ] {
            assert_eq!(choice(text), Some('B'), "{text}");
        }
    }

    #[test]
    fn the_last_answer_counts() {
        assert_eq!(choice("At first the answer is A. No: the answer is C."), Some('C'));
        assert_eq!(choice("\\boxed{A} no, \\boxed{D}"), Some('D'));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_search_panic(text in "(answer|option|is correct|\\\\boxed\\{|[ABab()*.:}\\n ]|.){0,30}") {
            if let Some(letter) = choice(&text) {
                prop_assert!(letter.is_ascii_uppercase());
            }
        }
    }
}
