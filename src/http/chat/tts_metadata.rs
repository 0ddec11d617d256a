//! The `tts_metadata` of a choice: how the answer came to be, in the words of the service from which the `tts_*`
//! fields come.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::algorithms::Candidate;
use crate::answer;

use super::response::Finished;

/// What its clients read. What a run does not have is left out.
#[derive(Serialize)]
pub struct TtsMetadata<'a> {
    strategy: &'a str,
    /// Seconds, to the millisecond.
    elapsed_time: f64,
    /// The class that won the vote; without a vote, the answer that the text gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    selected_answer: Option<&'a str>,
    /// The winner's share of the votes, where classes of answers were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    consensus_score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_distribution: Option<Shares<'a>>,
    /// The candidates that completed, in their order.
    all_trajectories: Vec<Trajectory<'a>>,
    token_stats: TokenStats,
}

/// Each class of answers with its share of the votes.
struct Shares<'a>(&'a [(String, usize)]);

#[derive(Serialize)]
struct Trajectory<'a> {
    /// Null for an answer that only calls tools.
    text: Option<&'a str>,
    num_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    selected: bool,
}

#[derive(Serialize)]
struct TokenStats {
    input_tokens: u64,
    output_tokens: u64,
    total_tokens_this_sample: u64,
    /// Answers that were begun, of every phase.
    generation_count: u64,
}

impl<'a> TtsMetadata<'a> {
    /// Tells of a finished run that was chosen in these words.
    pub fn of(run: &'a Finished<'_>, strategy: &'a str) -> Self {
        let outcome = run.outcome;
        let vote = outcome.verdict.as_ref().filter(|verdict| verdict.has_classes());
        let selected = outcome.selected();
        let trajectories = outcome.candidates.iter().enumerate().filter_map(|(index, candidate)| match candidate {
            Candidate::Completed(completion) => Some(Trajectory {
                text: completion.reply.content(),
                num_tokens: completion.usage.completion_tokens,
                score: outcome.scores.as_ref().and_then(|scores| *scores.get(index)?),
                selected: selected == Some(index),
            }),
            Candidate::Failed(_) | Candidate::Cancelled => None,
        });
        let winning_class = vote.and_then(|vote| vote.response_counts.first());
        Self {
            strategy,
            elapsed_time: (run.elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            selected_answer: match winning_class {
                Some((label, _)) => Some(label),
                None => outcome.winner().reply.content().and_then(answer::extract),
            },
            consensus_score: vote.map(|vote| vote.agreement),
            answer_distribution: vote.map(|vote| Shares(&vote.response_counts)),
            all_trajectories: trajectories.collect(),
            token_stats: TokenStats {
                input_tokens: run.usage.prompt_tokens,
                output_tokens: run.usage.completion_tokens,
                total_tokens_this_sample: run.usage.total_tokens(),
                generation_count: run.by_phase.values().map(|account| account.candidates).sum(),
            },
        }
    }
}

impl Serialize for Shares<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let votes: usize = self.0.iter().map(|(_, count)| count).sum();
        let mut object = serializer.serialize_map(Some(self.0.len()))?;
        for (label, count) in self.0 {
            // A class has at least one vote.
            object.serialize_entry(label, &(*count as f64 / votes as f64))?;
        }
        object.end()
    }
}
