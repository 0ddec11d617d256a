//! The steps of a whole candidate, found after the fact.

use std::ops::Range;

use crate::completion::TokenSignals;

/// Where a step ends, if it is not at the end of the response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Boundary {
    /// A step ends with the first token at or after this text; never empty.
    marker: Box<[u8]>,
    /// Tokens after which a step ends at the latest.
    most_tokens: Option<usize>,
}

impl Boundary {
    /// Steps end at `marker`, a blank line where none is named, and after `most_tokens`.
    pub fn new(marker: Option<&str>, most_tokens: Option<usize>) -> Self {
        let marker = marker.filter(|marker| !marker.is_empty()).unwrap_or("\n\n");
        Self { marker: marker.as_bytes().into(), most_tokens: most_tokens.filter(|tokens| *tokens > 0) }
    }

    pub fn most_tokens(&self) -> Option<usize> {
        self.most_tokens
    }

    /// The steps as ranges of tokens. Together they are all tokens, and none is empty.
    pub fn steps(&self, tokens: &[TokenSignals]) -> Vec<Range<usize>> {
        let mut steps = Vec::new();
        let mut start = 0;
        // The end of the step's text so far, as much of it as the marker may reach back into.
        let mut text: Vec<u8> = Vec::new();
        for (position, token) in tokens.iter().enumerate() {
            text.extend_from_slice(&token.bytes);
            let is_marked = text.windows(self.marker.len()).any(|piece| piece == &*self.marker);
            let is_long = self.most_tokens.is_some_and(|most| position + 1 - start >= most);
            if is_marked || is_long {
                steps.push(start..position + 1);
                start = position + 1;
                text.clear();
            } else {
                let kept = text.len().min(self.marker.len() - 1);
                text.drain(..text.len() - kept);
            }
        }
        if start < tokens.len() {
            steps.push(start..tokens.len());
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the steps end.
    fn ends(tokens: &[&str], marker: Option<&str>, most_tokens: Option<usize>) -> Vec<usize> {
        let token = |text: &&str| TokenSignals {
            bytes: text.as_bytes().into(),
            logprob: 0.0,
            top: Box::default(),
            self_certainty: None,
        };
        ends_of(&Boundary::new(marker, most_tokens), &tokens.iter().map(token).collect::<Vec<_>>())
    }

    fn ends_of(boundary: &Boundary, tokens: &[TokenSignals]) -> Vec<usize> {
        let steps = boundary.steps(tokens);
        let starts = std::iter::once(0).chain(steps.iter().map(|step| step.end));
        assert!(steps.iter().zip(starts).all(|(step, start)| step.start == start && !step.is_empty()), "{steps:?}");
        assert_eq!(steps.last().map_or(0, |step| step.end), tokens.len());
        steps.into_iter().map(|step| step.end).collect()
    }

    #[test]
    fn a_step_ends_with_the_token_that_completes_a_blank_line() {
        assert_eq!(ends(&["a", "\n\n", "b", "c\n", "\nd", "e"], None, None), [2, 5, 6]);
        assert_eq!(ends(&["a\n\n"], None, None), [1], "nothing follows, so there is no empty step");
        assert_eq!(ends(&["a", "\n", "b"], None, None), [3]);
        // The line end before a boundary does not count again after it.
        assert_eq!(ends(&["a\n\n", "\n", "b"], None, None), [1, 3]);
    }

    #[test]
    fn a_marker_may_be_spread_over_many_tokens_and_cut_through_characters() {
        assert_eq!(ends(&["x", "<s", "t", "ep>", "y"], Some("<step>"), None), [4, 5]);
        let mut tokens: Vec<TokenSignals> = Vec::new();
        for byte in "aéb".bytes() {
            tokens.push(TokenSignals { bytes: [byte].into(), logprob: 0.0, top: Box::default(), self_certainty: None });
        }
        assert_eq!(ends_of(&Boundary::new(Some("é"), None), &tokens), [3, 4]);
    }

    #[test]
    fn a_step_has_no_more_tokens_than_it_may() {
        assert_eq!(ends(&["a", "b", "c", "d", "e"], None, Some(2)), [2, 4, 5]);
        assert_eq!(ends(&["a", "\n\n", "b", "c", "d"], None, Some(3)), [2, 5]);
        assert_eq!(ends(&["a", "b"], None, Some(1)), [1, 2]);
        assert!(ends(&[], None, Some(1)).is_empty());
    }
}
