//! Mathematical expressions: reading them into a tree, and the one key of all that are algebraically the same.
//!
//! What is ambiguous (`1/2x`, `5-10`, `xy` alone) is not read, since a wrong reading would merge two answers. Two
//! expressions with one key have the same value; two without may have it too, where only a proof would show it.
//! Everything is bounded: the text, the nesting, the bits of a number and the steps of work.

mod arithmetic;
mod canonical;
mod lexer;
mod numeric;
mod parser;
mod print;
mod surd;
mod tree;

pub(super) use canonical::{difference, key};
pub(super) use numeric::{Closeness, compare};
pub(super) use parser::read;
pub(super) use tree::{Brackets, Comparison, Tree};

/// Longer texts are not read as expressions.
const MAX_BYTES: usize = 1_000;

/// Brackets, arguments and powers nested deeper than this are not read.
const MAX_DEPTH: usize = 24;

/// Numbers of more bits than this are not worked out.
const MAX_BITS: u64 = 4_096;

/// How many elementary steps (a product of two terms, a trial division) one key may take.
const MAX_STEPS: u32 = 4_000;

/// The work that is left for one key. Text from a model may be written to be expensive.
#[derive(Debug)]
struct Steps(u32);

impl Steps {
    fn new() -> Self {
        Self(MAX_STEPS)
    }

    /// Takes so many steps, or says that there are no more.
    fn take(&mut self, steps: usize) -> Option<()> {
        self.0 = self.0.checked_sub(u32::try_from(steps).ok()?)?;
        Some(())
    }
}
