//! Mathematical expressions: reading them into a tree, and the one key of all that are algebraically the same.
//!
//! What is ambiguous (`1/2x`, `5-10`, `xy` alone) is not read, since a wrong reading would merge two answers. Two
//! expressions with one key have the same value; two without may have it too, where only a proof would show it.
//! Everything is bounded: the text, the nesting, the bits of a number and the steps of work.

mod arithmetic;
mod canonical;
mod lexer;
mod numeric;
mod operands;
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
const MAX_STEPS: u32 = 2_000;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What it took to work out the key of a text, whether there was one or not.
    fn steps_taken(text: &str) -> u32 {
        let Some(tree) = read(text) else { return 0 };
        let mut steps = Steps::new();
        let _ = canonical::key_within(&tree, &mut steps);
        MAX_STEPS - steps.0
    }

    #[test]
    fn usual_answers_take_few_steps() {
        for text in
            ["\\frac{5\\sqrt{42}}{27}", "(x-2)(x+2)(x-3)", "(x+y)^6", "\\frac{1}{\\sqrt{2}+\\sqrt{3}+\\sqrt{5}}"]
        {
            let taken = steps_taken(text);
            assert!((1..=MAX_STEPS / 2).contains(&taken), "{text} takes {taken} steps");
            assert!(read(text).and_then(|tree| key(&tree)).is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_long_deep_or_dear_is_left_alone() {
        for text in [
            format!("x{}", "+x".repeat(500)),
            format!("{}x{}", "(".repeat(30), ")".repeat(30)),
            format!("{}x{}", "\\frac{".repeat(30), "}{2}".repeat(30)),
            "\\frac".repeat(100),
            "\\sqrt".repeat(100),
            "\\sin".repeat(100),
            format!("2{}", "^-".repeat(100)),
            format!("5{}", "!".repeat(100)),
        ] {
            assert_eq!(read(&text), None, "{text}");
        }
        for text in ["9^{9^9}", "((x+y+a)^9)^9", "171!", "\\frac{1}{3}^{-9999}", "(a+b+c+d+x+y)^{12}"] {
            let tree = read(text).unwrap_or_else(|| panic!("{text} is an expression"));
            assert_eq!(key(&tree), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn a_key_is_read_back_as_itself_and_keeps_the_value(
            text in "([1-9]|x|y|\\\\pi |e|\\\\sqrt|\\\\frac|\\\\sin |\\\\ln |abs|[-+*/^!]|\\^\\{-1\\}|\\^\\{1/2\\}|[(){}]|\\(x\\+1\\)|\\{[23]\\}){1,14}"
        ) {
            if let Some((tree, key)) = read(&text).and_then(|tree| key(&tree).map(|key| (tree, key))) {
                // A lone letter is no expression.
                if let Some(again) = read(&key) {
                    prop_assert_eq!(super::key(&again), Some(key.clone()), "{}", text);
                    for point in 0..4 {
                        let values = (numeric::value(&tree, point), numeric::value(&again, point));
                        let (Some(one), Some(other)) = values else { continue };
                        let close = (one - other).abs() <= 1e-6 * one.abs().max(other.abs()).max(1.0);
                        prop_assert!(close || !one.is_finite() || !other.is_finite(), "{} and {}: {} and {}", text, key, one, other);
                    }
                }
            }
        }
    }
}
