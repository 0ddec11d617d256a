//! What of the answer is certain while a search goes on: what all paths begin with that may still win.

use serde_json::value::to_raw_value;

use crate::algorithms::Observer;
use crate::algorithms::plan::Plan;
use crate::completion::{Completion, Delta, Prompt};
use crate::failure::{Failure, FailureKind};
use crate::generator::Generator;

/// Tells the answer as far as it is certain.
pub(super) struct Committed {
    /// What has been told; `None` where all of it waits for the end.
    told: Option<String>,
    /// Bytes at the end of a text of which a later step may show that they are none of the answer.
    held_back: usize,
}

impl Committed {
    /// Nothing is told before its end where there may be tool calls or thoughts in what the model writes, several answers,
    /// or log-probabilities, which belong to the one that wins.
    pub fn new(plan: &Plan, prompt: &Prompt, generator: &dyn Generator) -> Self {
        let is_plain = prompt.tools.is_empty()
            && !prompt.passthrough.contains_key("functions")
            && generator.paths(&prompt.model).is_some_and(|paths| paths.text_is_content);
        let may_tell = plan.live && plan.answers == 1 && prompt.logprobs.is_none() && is_plain;
        // A text that ends an answer is cut off it, and may be spread over several steps.
        let held_back = prompt.sampling.stop.iter().map(|stop| stop.len().saturating_sub(1)).max().unwrap_or(0);
        Self { told: may_tell.then(String::new), held_back }
    }

    /// What all of these texts begin with, as far as it was not told yet.
    pub fn further<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> Option<Delta> {
        let told = self.told.as_mut()?;
        let certain = common_prefix(texts)?;
        let end = certain.floor_char_boundary(certain.len().saturating_sub(self.held_back));
        let piece = certain.get(told.len()..end).filter(|piece| !piece.is_empty())?;
        told.push_str(piece);
        Some(content(piece))
    }

    /// Tells the rest of the answer, where its beginning was told.
    ///
    /// # Errors
    ///
    /// When that is no beginning of it, which only a defect of ours makes.
    pub async fn finish(self, answer: &Completion, observer: &mut impl Observer) -> Result<(), Failure> {
        let Some(told) = self.told.filter(|told| !told.is_empty()) else { return Ok(()) };
        let Some(rest) = answer.reply.content().and_then(|text| text.strip_prefix(told.as_str())) else {
            return Err(Failure::new(FailureKind::Internal, "the answer is another than what was told of it"));
        };
        if !rest.is_empty() {
            observer.delta(content(rest)).await;
        }
        Ok(())
    }
}

fn content(text: &str) -> Delta {
    #[derive(serde::Serialize)]
    struct Fields<'a> {
        content: &'a str,
    }
    Delta { fields: to_raw_value(&Fields { content: text }).expect("strings always serialise"), logprobs: None }
}

/// What all texts begin with; `None` where there are none.
fn common_prefix<'a>(mut texts: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let first = texts.next()?;
    Some(texts.fold(first, |common, text| {
        let same = common.bytes().zip(text.bytes()).take_while(|(one, other)| one == other).count();
        &common[..common.floor_char_boundary(same)]
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_prefix_cuts_no_character() {
        for (texts, expected) in [
            (vec!["abc", "abd", "ab"], Some("ab")),
            (vec!["abc"], Some("abc")),
            (vec!["é", "è"], Some("")),
            (vec!["aé", "aèx"], Some("a")),
            (vec!["aé", "aé"], Some("aé")),
            (vec!["", "a"], Some("")),
            (vec![], None),
        ] {
            assert_eq!(common_prefix(texts.iter().copied()), expected, "{texts:?}");
        }
    }
}
