//! Grading a response against a reference answer.
//!
//! Grading may be more tolerant than the vote class, since it compares one pair only and need not be transitive: `28`
//! is accepted for `28%`, `[2, \infty)` for `x \ge 2`. Whatever accepts is named in the verdict, so that a reader of
//! results can take a rule out. A factor of 100 between two plain numbers is never forgiven.

mod candidates;
mod compare;
mod lists;
mod math_string;
mod reading;
mod relations;

use super::choice;
use candidates::{Candidate, Standing, candidates};
use reading::Read;

/// Why a response was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Both vote in one class.
    SameClass,
    /// `28` for `28%`, or the other way round.
    PercentSign,
    /// `0.28` for `28%`, or the other way round.
    PercentAsFraction,
    /// Both have one value, to a relative 1e-6, at every point that was tried.
    Numeric,
    /// `5` for `|AB| = 5`, `(1, 2)` for `(p, q) = (1, 2)`.
    NamedValue,
    /// Equations of which one is a multiple of the other.
    EquivalentEquation,
    /// `(1, 7)` for `1 < x < 7`, and `[1, 7]` for `x \in [1, 7]`.
    InequalityAsInterval,
    /// One list in different brackets: `1, 3` for `(1, 3)`.
    ListBrackets,
    /// One list in another order, where neither is an ordered tuple.
    AnyOrder,
    /// `1,22` for `1.22`.
    DecimalComma,
    /// The texts are one after the normalisation of the MATH benchmark.
    MathString,
}

impl Rule {
    /// Every rule, in the order in which they are documented.
    pub const ALL: [Self; 11] = [
        Self::SameClass,
        Self::PercentSign,
        Self::PercentAsFraction,
        Self::Numeric,
        Self::NamedValue,
        Self::EquivalentEquation,
        Self::InequalityAsInterval,
        Self::ListBrackets,
        Self::AnyOrder,
        Self::DecimalComma,
        Self::MathString,
    ];

    /// The name under which results record the rule.
    pub fn name(self) -> &'static str {
        match self {
            Self::SameClass => "same_class",
            Self::PercentSign => "percent_sign",
            Self::PercentAsFraction => "percent_as_fraction",
            Self::Numeric => "numeric",
            Self::NamedValue => "named_value",
            Self::EquivalentEquation => "equivalent_equation",
            Self::InequalityAsInterval => "inequality_as_interval",
            Self::ListBrackets => "list_brackets",
            Self::AnyOrder => "any_order",
            Self::DecimalComma => "decimal_comma",
            Self::MathString => "math_string",
        }
    }
}

/// What grading says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is the reference's, by that rule.
    Equal { rule: Rule, extracted: String },
    /// There is an answer, and it is not the reference's.
    Different { extracted: String },
    /// There is no answer to compare, in the response or in the reference.
    Unparsed,
}

impl Verdict {
    /// The verdict as one JSON object: `verdict`, and `rule` and `extracted`, which are null where there is none.
    pub fn to_json(&self) -> serde_json::Value {
        let (rule, extracted) = match self {
            Self::Equal { rule, extracted } => (Some(rule.name()), Some(extracted)),
            Self::Different { extracted } => (None, Some(extracted)),
            Self::Unparsed => (None, None),
        };
        serde_json::json!({ "verdict": self.name(), "rule": rule, "extracted": extracted })
    }

    /// `equal`, `different` or `unparsed`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Equal { .. } => "equal",
            Self::Different { .. } => "different",
            Self::Unparsed => "unparsed",
        }
    }
}

/// Grades a response by a reference, each of which is an answer alone or a text that holds one.
///
/// Of each the candidates are tried in the order that the documentation of answers gives; the first that will do is
/// *the* answer, so that a response which names several does not get to try them all. Reads the last 256 KiB of either.
pub fn grade(reference: &str, response: &str) -> Verdict {
    let references = candidates(reference);
    let Some((reference, _)) = answer(&references) else { return Verdict::Unparsed };
    if let Some(verdict) = option(&reference, response) {
        return verdict;
    }
    let responses = candidates(response);
    let chosen = if reference.is_text() { read(&responses).next() } else { answer(&responses) };
    let Some((response, candidate)) = chosen else { return Verdict::Unparsed };
    let extracted = candidate.text.trim().to_owned();
    match compare::accepts(&reference, &response) {
        Some(rule) => Verdict::Equal { rule, extracted },
        // Prose is no answer to a question of mathematics.
        None if !reference.is_text() && response.is_text() && candidate.standing == Standing::Prose => {
            Verdict::Unparsed
        }
        None => Verdict::Different { extracted },
    }
}

/// The verdict where the reference is the letter of an option and the response chooses one.
fn option(reference: &Read, response: &str) -> Option<Verdict> {
    let letter =
        reference.label.chars().next().filter(|letter| reference.label.len() == 1 && ('a'..='h').contains(letter))?;
    let chosen = choice(response)?;
    let extracted = chosen.to_string();
    let same = chosen.eq_ignore_ascii_case(&letter);
    Some(if same { Verdict::Equal { rule: Rule::SameClass, extracted } } else { Verdict::Different { extracted } })
}

/// The candidate that is the answer: of those that the text announces the first that reads as mathematics, else the
/// first, and only where nothing is announced one of the others by the same rule. A formula that cannot be read is an
/// answer too, so that no number within it is taken for one.
fn answer(candidates: &[Candidate]) -> Option<(Read, &Candidate)> {
    let standings: [&[Standing]; 2] = [&[Standing::Announced], &[Standing::Formula, Standing::Prose]];
    for standings in standings {
        let of_standing = || read(candidates).filter(|(_, candidate)| standings.contains(&candidate.standing));
        let found = of_standing().find(|(read, candidate)| !read.is_text() || candidate.standing == Standing::Formula);
        if let Some(found) = found.or_else(|| of_standing().next()) {
            return Some(found);
        }
    }
    None
}

fn read(candidates: &[Candidate]) -> impl Iterator<Item = (Read, &Candidate)> {
    candidates.iter().filter_map(|candidate| Some((Read::of(&candidate.text)?, candidate)))
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
