//! Reading answers: finding the answer in a candidate's text, naming the class it votes in, judging it by a reference.
//!
//! Extraction ([`extract()`]), the vote class ([`answer_class`]) and grading ([`grade()`]) are three functions on purpose:
//! a class must be an equivalence, a grade may be tolerant, and each looks for the answer in an order of its own.
//! Everything here is pure, never panics on hostile text, reads no more than its last 256 KiB in one pass, and works out
//! expressions within fixed bounds.

mod canonical_json;
mod choice;
mod class;
mod decimal;
mod dress;
mod equation;
#[cfg(test)]
mod equivalence;
mod expression;
mod extract;
mod grade;
mod notation;
mod number;
#[cfg(test)]
mod odd_pairs;
mod rational;
mod units;

pub use canonical_json::{Json, JsonError};
pub use choice::choice;
pub use class::{answer_class, number_class};
pub use decimal::Decimal;
pub use extract::extract;
pub use grade::{Rule, Verdict, grade};

/// How much of a text is read for an answer, in bytes. Answers stand at the end, so the end is what is kept.
const READ_BYTES: usize = 256 * 1024;

/// The last [`READ_BYTES`] of a text, cut at a character boundary.
fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(READ_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}
