//! How grading reads a candidate: as the class does, and besides as a list of its parts and as the whole equation.

use num_rational::BigRational;

use super::super::class::{self, Meaning};
use super::super::dress::{trim, undress};
use super::super::expression::{self, Brackets, Tree};

/// Longer candidates are compared as text alone.
const MAX_BYTES: usize = 1_500;

/// Lists of more parts are compared as text.
const MAX_PARTS: usize = 32;

/// A candidate, read.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub text: String,
    pub label: String,
    pub meaning: Meaning,
    /// The whole as an expression, equations with both sides.
    pub whole: Option<Tree>,
    /// The parts of a list, where there are several.
    pub parts: Option<Parts>,
}

/// The parts of a list.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub brackets: Brackets,
    pub parts: Vec<Part>,
}

/// A part of a list: `x = 5`, or `5` alone.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub name: Option<String>,
    pub read: Read,
}

impl Read {
    /// Reads a candidate. `None` where nothing is left once the dress is off.
    pub fn of(text: &str) -> Option<Self> {
        Self::at_depth(text, true)
    }

    fn at_depth(text: &str, with_parts: bool) -> Option<Self> {
        let reading = class::reading(text)?;
        let short = text.len() <= MAX_BYTES;
        let plain = if short { undress(text) } else { String::new() };
        let plain = trim(&plain);
        let whole = if class::in_degrees(text) { None } else { expression::read(plain) };
        let parts = (short && with_parts).then(|| parts(plain, whole.as_ref())).flatten();
        Some(Self { text: text.to_owned(), label: reading.label, meaning: reading.meaning, whole, parts })
    }

    /// A reading of an expression that was worked out.
    pub fn of_tree(tree: &Tree) -> Option<Self> {
        let label = expression::key(tree)?;
        Some(Self {
            text: label.clone(),
            label,
            meaning: Meaning::Expression(tree.clone()),
            whole: Some(tree.clone()),
            parts: None,
        })
    }

    /// Whether this is neither a number nor an expression nor a list of such.
    pub fn is_text(&self) -> bool {
        let parts = || self.parts.as_ref().is_some_and(|list| list.parts.iter().any(|part| !part.read.is_text()));
        matches!(self.meaning, Meaning::Text) && self.whole.is_none() && !parts()
    }

    pub fn tree(&self) -> Option<&Tree> {
        match &self.meaning {
            Meaning::Expression(tree) => Some(tree),
            Meaning::Percentage(_) | Meaning::Text => None,
        }
    }

    pub fn percentage(&self) -> Option<&BigRational> {
        match &self.meaning {
            Meaning::Percentage(value) => Some(value),
            Meaning::Expression(_) | Meaning::Text => None,
        }
    }

    pub fn rational(&self) -> Option<&BigRational> {
        match self.tree()? {
            Tree::Number(value) => Some(value),
            _ => None,
        }
    }
}

/// The parts of a list without brackets or in braces, joined by commas, semicolons, "and" or "or"; both values of
/// `3 ± 2` are parts as well.
fn parts(plain: &str, whole: Option<&Tree>) -> Option<Parts> {
    if let Some(Tree::PlusMinus(centre, offset)) = whole {
        let value = |sign: i64| {
            let offset = Tree::Product(vec![Tree::integer(sign), offset.as_ref().clone()]);
            Read::of_tree(&Tree::Sum(vec![centre.as_ref().clone(), offset])).map(|read| Part { name: None, read })
        };
        return Some(Parts { brackets: Brackets::Set { shown: true }, parts: vec![value(1)?, value(-1)?] });
    }
    let (brackets, inner) = unwrapped(plain);
    // `n = 2, 3, 4` names them all.
    let (shared, inner) = match inner.split_once('=') {
        Some((name, rest)) if is_short_name(name) && !rest.contains('=') => (Some(spelled(name)), rest),
        _ => (None, inner),
    };
    let pieces = pieces(inner)?;
    let part = |piece: &&str| {
        let name = piece.split_once('=').map(|(name, _)| name).filter(|name| is_short_name(name)).map(spelled);
        Read::at_depth(piece, false).map(|read| Part { name: name.or_else(|| shared.clone()), read })
    };
    let parts: Option<Vec<Part>> = pieces.iter().map(part).collect();
    Some(Parts { brackets, parts: parts? })
}

fn is_short_name(name: &str) -> bool {
    let name = name.trim();
    let starts = name.starts_with(|c: char| c.is_alphabetic() || c == '\\');
    starts && name.len() <= 24 && !name.contains(['+', '-', ',', '<', '>', '/', '|', ' '])
}

fn spelled(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, ' ' | '{' | '}')).collect()
}

/// The brackets around a whole list, and what is in them.
fn unwrapped(plain: &str) -> (Brackets, &str) {
    for (open, close, shown) in [("\\{", "\\}", true), ("{", "}", false)] {
        if let Some(inner) = plain.strip_prefix(open).and_then(|rest| rest.strip_suffix(close))
            && !inner.contains(['{', '}'])
        {
            return (Brackets::Set { shown }, inner);
        }
    }
    (Brackets::Bare, plain)
}

/// The pieces of a list of at least two, and no more than [`MAX_PARTS`].
fn pieces(text: &str) -> Option<Vec<&str>> {
    let mut pieces = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    let mut at = 0;
    while at < text.len() {
        let byte = text.as_bytes()[at];
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        // `1,000` is one number.
        let thousands = byte == b','
            && text[..at].ends_with(|c: char| c.is_ascii_digit())
            && text[at + 1..].bytes().take_while(u8::is_ascii_digit).count() == 3;
        let separator = if matches!(byte, b',' | b';') && !thousands { 1 } else { conjunction(text, at) };
        if depth == 0 && separator > 0 {
            pieces.push(&text[start..at]);
            at += separator;
            start = at;
        } else {
            at += 1;
        }
    }
    pieces.push(&text[start..]);
    // Of `19, 46, and 82` nothing stands between the comma and the word.
    pieces.retain(|piece| !piece.trim().is_empty());
    (depth == 0 && (2..=MAX_PARTS).contains(&pieces.len())).then_some(pieces)
}

/// The length of "and" or "or" at a place, where it stands between words or brackets.
fn conjunction(text: &str, at: usize) -> usize {
    let rest = &text.as_bytes()[at..];
    let Some(word) = ["and", "or"].into_iter().find(|word| rest.starts_with(word.as_bytes())) else { return 0 };
    let apart = |c: Option<char>| c.is_none_or(|c| c == ' ' || c == ',' || c == ')' || c == '(');
    let after = at + word.len();
    let alone =
        text.is_char_boundary(at) && apart(text[..at].chars().next_back()) && apart(text[after..].chars().next());
    if alone { word.len() } else { 0 }
}
