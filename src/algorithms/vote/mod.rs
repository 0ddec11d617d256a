//! Self-consistency's decision: which of many candidates is returned, and whether it is known already.
//!
//! A [`Ballot`] hears how each candidate ended, in any order, and gives the same [`Verdict`] whatever the order
//! was. It asks nobody and waits for nothing; who makes the candidates and when to stop asking is decided by
//! its caller.
//!
//! The vote goes down a ladder. Only the best-founded candidates vote: valid before invalid, finished before
//! cut off. Then tool calls or text: if at least half of those candidates call tools, the tool vote decides
//! among them, otherwise the text vote among the rest. Where nobody has anything to compare, the most typical
//! text is returned, and the verdict says that this was so.
//!
//! A refusal is a message without content, hence invalid; what a content filter ended counts as cut off.

mod decided;
mod election;
mod fields;
mod key;
mod pool;
mod rules;
mod similarity;
mod tally;
mod text;
mod tool;
mod validity;
mod verdict;
mod weight;

use std::borrow::Cow;
use std::sync::Arc;

pub(super) use pool::Pool;
pub use rules::{RuleError, VoteRules};
pub use tally::{Lead, Tally};
pub use validity::Validity;
pub use verdict::{SetAside, Verdict};
pub use weight::Weighting;

use crate::completion::{Completion, FinishReason};
use crate::config::run::ToolVote;
use decided::{Pending, Weights};
use election::{Class, Fallback, Voter};
use key::{Key, NumberedKey, Numbering};
use text::TextVote;

/// The votes of one run.
#[derive(Debug)]
pub struct Ballot {
    rules: Arc<VoteRules>,
    validity: Arc<Validity>,
    text_vote: TextVote,
    weighting: Weighting,
    numbering: Numbering,
    planned: usize,
    /// Whether each index has ended, one way or another.
    ended: Vec<bool>,
    /// The completed candidates, lowest index first.
    entries: Vec<Entry>,
}

/// A completed candidate, parsed once.
#[derive(Debug)]
struct Entry {
    index: usize,
    logprob: Option<f64>,
    /// What its vote weighs, where that is known.
    weight: Option<f64>,
    standing: Standing,
    /// Why the candidate is not of the best standing.
    fault: Option<Cow<'static, str>>,
    vote: Vote,
}

/// How well-founded a candidate is; only candidates of the best standing that occurs vote. A client can do
/// nothing with an invalid message, finished or not, so validity comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    invalid: bool,
    cut_off: bool,
}

#[derive(Debug)]
enum Vote {
    Tools(NumberedKey),
    Text { text: String, key: Option<NumberedKey> },
}

const BEST: Standing = Standing { invalid: false, cut_off: false };

impl Ballot {
    /// A ballot for candidates `0..planned`.
    pub fn new(rules: Arc<VoteRules>, validity: Arc<Validity>, planned: usize) -> Self {
        let text_vote = TextVote::of(&rules, &validity);
        let (ended, entries) = (vec![false; planned], Vec::with_capacity(planned));
        let (weighting, numbering) = (Weighting::Equal, Numbering::default());
        Self { rules, validity, text_vote, weighting, numbering, planned, ended, entries }
    }

    /// The same ballot with votes that weigh so, before anything is recorded.
    #[must_use]
    pub fn weighted(mut self, weighting: Weighting) -> Self {
        self.weighting = weighting;
        self
    }

    /// Gives the votes of a ballot that is weighted by [`Weighting::Scores`] their scores, 0 or more, in candidate
    /// order; `None` for a candidate that was not scored.
    pub fn weigh(&mut self, scores: &[Option<f64>]) {
        for entry in &mut self.entries {
            entry.weight = scores.get(entry.index).copied().flatten();
        }
    }

    /// Records how candidate `index` ended; `None` for one that failed. Only the first ending of an index counts.
    pub fn record(&mut self, index: usize, completion: Option<&Completion>) {
        if index >= self.ended.len() {
            self.ended.resize(index + 1, false);
        }
        if std::mem::replace(&mut self.ended[index], true) {
            return;
        }
        if let Some(completion) = completion {
            let entry = self.read(index, completion);
            let position = self.entries.partition_point(|earlier| earlier.index < index);
            self.entries.insert(position, entry);
        }
    }

    /// How many candidates there are to be.
    pub fn planned(&self) -> usize {
        self.planned
    }

    /// Whether [`Ballot::is_decided`] can come to be true at all.
    pub fn may_be_decided(&self) -> bool {
        let by_similarity = matches!(self.text_vote, TextVote::Similarity) && !self.validity.offers_tools();
        self.weighting != Weighting::Scores && !by_similarity
    }

    /// Whether no ending of the unfinished candidates can change the winning class. False where none is
    /// unfinished, since there is nothing left to stop.
    ///
    /// It is never true for the similarity vote, while a comparison of fields may still decide, or for scores,
    /// which have no bound.
    pub fn is_decided(&self) -> bool {
        if self.weighting == Weighting::Scores {
            return false;
        }
        let unfinished = || (0..self.planned).filter(|&index| !self.ended[index]);
        let Some(first) = unfinished().next() else { return false };
        let pending = Pending { count: unfinished().count(), first };
        // One pending candidate of the best standing would silence all others, so no other can lead for certain.
        let pool: Vec<&Entry> = self.entries.iter().filter(|entry| entry.standing == BEST).collect();
        if pool.len() < pending.count {
            return false;
        }
        let with_tools = pool.iter().filter(|entry| entry.has_tools()).count();
        let with_text = pool.len() - with_tools;
        if with_tools > 0 && with_tools >= with_text + pending.count {
            return self.is_settled(&self.voters(&pool, Entry::tool_key), self.tool_fallback(), pending);
        }
        // Where no tool is offered every call is invalid, and none can join the pool.
        let possible_tools = if self.validity.offers_tools() { with_tools + pending.count } else { with_tools };
        if possible_tools >= with_text {
            return false;
        }
        let voters = self.voters(&pool, Entry::text_key);
        match self.text_vote {
            TextVote::Similarity => return false,
            // Every pending candidate might be a text without an answer.
            TextVote::AnswerOrSimilarity if voters.len() * 2 < with_text + pending.count => return false,
            _ => {}
        }
        self.is_settled(&voters, self.text_fallback(), pending)
    }

    fn is_settled(&self, voters: &[Voter<'_>], fallback: Fallback, pending: Pending) -> bool {
        // As long as no log-probability is known all votes weigh the same, also the mean of those to come: they
        // cannot add more to a rival than their number times that mean.
        let is_open = voters.iter().any(|voter| voter.logprob.is_some());
        let weights = match self.weighting {
            Weighting::Confidence { .. } if is_open => Weights::UpToOne,
            _ => Weights::Equal,
        };
        decided::is_settled(voters, fallback, pending, weights)
    }

    /// Those of the entries that have a key, with what their votes weigh.
    fn voters<'a>(&self, entries: &[&'a Entry], key: impl Fn(&'a Entry) -> Option<&'a NumberedKey>) -> Class<'a> {
        let voting: Vec<(&Entry, &NumberedKey)> =
            entries.iter().filter_map(|&entry| Some((entry, key(entry)?))).collect();
        let known: Vec<Option<f64>> = voting.iter().map(|(entry, _)| entry.weight).collect();
        let is_scored = self.weighting == Weighting::Scores && known.iter().any(Option::is_some);
        let voter = |((entry, key), weight): ((&'a Entry, &'a NumberedKey), f64)| {
            let merit = if is_scored { Some(weight) } else { entry.logprob };
            let confidence = entry.weight.filter(|_| matches!(self.weighting, Weighting::Confidence { .. }));
            Voter { index: entry.index, logprob: entry.logprob, weight, confidence, merit, key }
        };
        let weights = match self.weighting {
            Weighting::Confidence { temperature } => {
                let logprobs: Vec<Option<f64>> = voting.iter().map(|(entry, _)| entry.logprob).collect();
                weight::completed(&weight::relative(&logprobs, temperature))
            }
            Weighting::Equal | Weighting::Scores => weight::completed(&known),
        };
        voting.into_iter().zip(weights).map(voter).collect()
    }

    fn tool_fallback(&self) -> Fallback {
        if self.rules.tool_vote == ToolVote::ToolHierarchical { Fallback::AllDiffer } else { Fallback::Never }
    }

    fn text_fallback(&self) -> Fallback {
        if self.text_vote == TextVote::Json { Fallback::NoMajority } else { Fallback::Never }
    }

    /// Reads a completion once: its standing, and what it votes for.
    fn read(&mut self, index: usize, completion: &Completion) -> Entry {
        let reply = &completion.reply;
        let calls = reply.tool_calls();
        let text = reply.content().unwrap_or_default();
        let (vote, problem) = if !calls.is_empty() {
            let (arguments, problem) = self.validity.examine_calls(calls);
            (Vote::Tools(self.numbering.number(tool::key(&self.rules, calls, arguments))), problem)
        } else if text.trim().is_empty() {
            (Vote::Text { text: String::new(), key: None }, validity::fault_of_empty(reply))
        } else {
            let (json, problem) = self.validity.examine_text(text);
            let key: Option<Key> = self.text_vote.key(&self.rules, text, json);
            let key = key.map(|key| self.numbering.number(key));
            (Vote::Text { text: text.to_owned(), key }, problem)
        };
        // What a content filter has cut off is as unfinished as what the length limit has.
        let cut = match completion.finish_reason {
            FinishReason::Length => Some("cut off by the length limit"),
            FinishReason::ContentFilter => Some("cut off by the provider's content filter"),
            FinishReason::Stop | FinishReason::ToolCalls | FinishReason::Other(_) => None,
        };
        let standing = Standing { invalid: problem.is_some(), cut_off: cut.is_some() };
        let fault = match (problem, cut) {
            (Some(problem), Some(cut)) => Some(Cow::Owned(format!("invalid and {cut}: {problem}"))),
            (Some(problem), None) => Some(Cow::Owned(format!("invalid: {problem}"))),
            (None, Some(cut)) => Some(Cow::Borrowed(cut)),
            (None, None) => None,
        };
        let logprob = completion.mean_logprob.filter(|logprob| logprob.is_finite());
        Entry { index, logprob, weight: self.weighting.of(completion), standing, fault, vote }
    }
}

impl Entry {
    fn has_tools(&self) -> bool {
        matches!(self.vote, Vote::Tools(_))
    }

    fn tool_key(&self) -> Option<&NumberedKey> {
        match &self.vote {
            Vote::Tools(key) => Some(key),
            Vote::Text { .. } => None,
        }
    }

    fn text_key(&self) -> Option<&NumberedKey> {
        match &self.vote {
            Vote::Text { key, .. } => key.as_ref(),
            Vote::Tools(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
