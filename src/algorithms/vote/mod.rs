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
mod text;
mod tool;
mod validity;

use std::borrow::Cow;
use std::sync::Arc;

pub(super) use pool::Pool;
pub use rules::{RuleError, VoteRules};
pub use validity::Validity;

use crate::completion::{Completion, FinishReason};
use crate::config::run::ToolVote;
use decided::Pending;
use election::{Class, Fallback, Voter};
use key::Key;
use text::TextVote;

/// The votes of one run.
#[derive(Debug)]
pub struct Ballot {
    rules: Arc<VoteRules>,
    validity: Arc<Validity>,
    text_vote: TextVote,
    planned: usize,
    /// Whether each index has ended, one way or another.
    ended: Vec<bool>,
    /// The completed candidates, lowest index first.
    entries: Vec<Entry>,
}

/// Which candidate is returned, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The index of the returned candidate.
    pub selected: usize,
    /// Class label and number of votes; the winner first, then by votes, then by lowest index.
    pub response_counts: Vec<(String, usize)>,
    /// The winner's share of the candidates that voted, above 0 and up to 1.
    pub agreement: f64,
    /// The vote that decided: the name of a tool vote or of a text vote, `tool_fields` or `json_fields` where
    /// candidates were compared field by field.
    pub vote: &'static str,
    /// Completed candidates that did not vote, lowest index first.
    pub set_aside: Vec<SetAside>,
    /// What a reader should know about how it came to this verdict, in sentences without a full stop.
    pub notes: Vec<String>,
}

/// A completed candidate that did not vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    pub candidate: usize,
    /// Why, in words for people.
    pub reason: Cow<'static, str>,
}

/// A completed candidate, parsed once.
#[derive(Debug)]
struct Entry {
    index: usize,
    logprob: Option<f64>,
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
    Tools(Key),
    Text { text: String, key: Option<Key> },
}

const BEST: Standing = Standing { invalid: false, cut_off: false };

impl Ballot {
    /// A ballot for candidates `0..planned`.
    pub fn new(rules: Arc<VoteRules>, validity: Arc<Validity>, planned: usize) -> Self {
        let text_vote = TextVote::of(&rules, &validity);
        let (ended, entries) = (vec![false; planned], Vec::with_capacity(planned));
        Self { rules, validity, text_vote, planned, ended, entries }
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

    /// Whether no ending of the unfinished candidates can change the winning class. False where none is
    /// unfinished, since there is nothing left to stop.
    ///
    /// It is never true for the similarity vote, or while a comparison of fields may still decide.
    pub fn is_decided(&self) -> bool {
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
            return decided::is_settled(&tool_voters(&pool), self.tool_fallback(), pending);
        }
        // Where no tool is offered every call is invalid, and none can join the pool.
        let possible_tools = if self.validity.offers_tools() { with_tools + pending.count } else { with_tools };
        if possible_tools >= with_text {
            return false;
        }
        let voters = text_voters(&pool);
        match self.text_vote {
            TextVote::Similarity => return false,
            // Every pending candidate might be a text without an answer.
            TextVote::AnswerOrSimilarity if voters.len() * 2 < with_text + pending.count => return false,
            _ => {}
        }
        decided::is_settled(&voters, self.text_fallback(), pending)
    }

    /// The verdict over the candidates that are in; `None` when none has completed.
    pub fn verdict(&self) -> Option<Verdict> {
        let standing = self.entries.iter().map(|entry| entry.standing).min()?;
        let (pool, worse): (Vec<&Entry>, Vec<&Entry>) =
            self.entries.iter().partition(|entry| entry.standing == standing);
        let mut set_aside: Vec<SetAside> =
            worse.iter().map(|entry| entry.set_aside(entry.fault.clone().unwrap_or_default())).collect();
        let mut notes = Vec::new();
        if standing != BEST {
            let fault = pool[0].fault.as_deref().unwrap_or_default();
            let what = if standing.invalid {
                "no candidate is valid, so invalid ones voted"
            } else {
                "no valid candidate finished, so those cut off voted"
            };
            notes.push(format!("{what} (candidate {}: {fault})", pool[0].index));
        }

        let with_tools = pool.iter().filter(|entry| entry.has_tools()).count();
        let by_tools = with_tools > 0 && with_tools * 2 >= pool.len();
        let (side, other): (Vec<&Entry>, Vec<&Entry>) =
            pool.into_iter().partition(|entry| entry.has_tools() == by_tools);
        let otherwise = if by_tools {
            "answered in text while at least half of the candidates call tools"
        } else {
            "calls tools while more than half of the candidates answer in text"
        };
        set_aside.extend(other.iter().map(|entry| entry.set_aside(Cow::Borrowed(otherwise))));

        let mut verdict = if by_tools {
            let name = match self.rules.tool_vote {
                ToolVote::ToolName => "tool_name",
                ToolVote::ToolArgs => "tool_args",
                ToolVote::ToolHierarchical => "tool_hierarchical",
                ToolVote::ToolSet => "tool_set",
            };
            count(tool_voters(&side), self.tool_fallback(), [name, "tool_fields"])
        } else {
            self.text_verdict(&side, &mut set_aside, &mut notes)
        };
        set_aside.sort_by_key(|aside| aside.candidate);
        verdict.set_aside = set_aside;
        verdict.notes = notes;
        Some(verdict)
    }

    fn text_verdict(&self, side: &[&Entry], set_aside: &mut Vec<SetAside>, notes: &mut Vec<String>) -> Verdict {
        let voters = text_voters(side);
        let too_few = match self.text_vote {
            TextVote::Similarity => true,
            TextVote::AnswerOrSimilarity => voters.is_empty() || voters.len() * 2 < side.len(),
            _ => voters.is_empty(),
        };
        if too_few {
            if !matches!(self.text_vote, TextVote::Similarity | TextVote::AnswerOrSimilarity) {
                let name = self.text_vote.name();
                notes.push(format!(
                    "every candidate abstained from the vote on {name}, so the most typical text is returned"
                ));
            }
            return most_typical(side);
        }
        let silent = side.iter().filter(|entry| entry.text_key().is_none());
        set_aside.extend(silent.map(|entry| entry.set_aside(Cow::Borrowed(self.text_vote.abstention()))));
        count(voters, self.text_fallback(), [self.text_vote.name(), "json_fields"])
    }

    fn tool_fallback(&self) -> Fallback {
        if self.rules.tool_vote == ToolVote::ToolHierarchical { Fallback::AllDiffer } else { Fallback::Never }
    }

    fn text_fallback(&self) -> Fallback {
        if self.text_vote == TextVote::Json { Fallback::NoMajority } else { Fallback::Never }
    }

    /// Reads a completion once: its standing, and what it votes for.
    fn read(&self, index: usize, completion: &Completion) -> Entry {
        let reply = &completion.reply;
        let calls = reply.tool_calls();
        let text = reply.content().unwrap_or_default();
        let (vote, problem) = if !calls.is_empty() {
            let (arguments, problem) = self.validity.examine_calls(calls);
            (Vote::Tools(tool::key(&self.rules, calls, arguments)), problem)
        } else if text.trim().is_empty() {
            (Vote::Text { text: String::new(), key: None }, validity::fault_of_empty(reply))
        } else {
            let (json, problem) = self.validity.examine_text(text);
            (Vote::Text { text: text.to_owned(), key: self.text_vote.key(&self.rules, text, json) }, problem)
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
        Entry { index, logprob, standing, fault, vote }
    }
}

impl Entry {
    fn has_tools(&self) -> bool {
        matches!(self.vote, Vote::Tools(_))
    }

    fn text_key(&self) -> Option<&Key> {
        match &self.vote {
            Vote::Text { key, .. } => key.as_ref(),
            Vote::Tools(_) => None,
        }
    }

    fn set_aside(&self, reason: Cow<'static, str>) -> SetAside {
        SetAside { candidate: self.index, reason }
    }

    fn voter<'a>(&'a self, key: &'a Key) -> Voter<'a> {
        Voter { index: self.index, logprob: self.logprob, key }
    }
}

fn tool_voters<'a>(entries: &[&'a Entry]) -> Class<'a> {
    let voter = |entry: &&'a Entry| match &entry.vote {
        Vote::Tools(key) => Some(entry.voter(key)),
        Vote::Text { .. } => None,
    };
    entries.iter().filter_map(voter).collect()
}

fn text_voters<'a>(entries: &[&'a Entry]) -> Class<'a> {
    entries.iter().filter_map(|entry| Some(entry.voter(entry.text_key()?))).collect()
}

/// The verdict of a vote with at least one voter; `names` are the vote's own and that of its fallback.
fn count(voters: Class<'_>, fallback: Fallback, names: [&'static str; 2]) -> Verdict {
    let mut classes = election::classes(&voters);
    let total = voters.len();
    let (winner, by_fields) = election::elect(voters, fallback);
    let first = winner[0].index;
    // The sort is stable, so that classes of one size stay in the order of their lowest index.
    classes.sort_by_key(|class| (class[0].index != first, std::cmp::Reverse(class.len())));
    Verdict {
        selected: election::spokesman(&winner).index,
        response_counts: classes.iter().map(|class| (class[0].key.label(), class.len())).collect(),
        agreement: winner.len() as f64 / total as f64,
        vote: names[usize::from(by_fields)],
        set_aside: Vec::new(),
        notes: Vec::new(),
    }
}

/// The verdict where texts have no classes: the medoid. Equal texts are counted as one.
fn most_typical(side: &[&Entry]) -> Verdict {
    let text = |entry: &Entry| match &entry.vote {
        Vote::Text { text, .. } => text.trim().to_owned(),
        Vote::Tools(_) => String::new(),
    };
    let keys: Vec<Key> = side.iter().map(|entry| Key::single(text(entry))).collect();
    let texts: Vec<&str> = keys.iter().map(|key| key.levels[0].as_str()).collect();
    let selected = similarity::medoid(&texts).unwrap_or(0);
    let voters: Class<'_> = side.iter().zip(&keys).map(|(entry, key)| entry.voter(key)).collect();
    let mut classes = election::classes(&voters);
    classes.sort_by_key(|class| (class[0].key.levels != keys[selected].levels, std::cmp::Reverse(class.len())));
    Verdict {
        selected: side[selected].index,
        agreement: classes[0].len() as f64 / side.len() as f64,
        response_counts: classes.iter().map(|class| (class[0].key.label(), class.len())).collect(),
        vote: TextVote::Similarity.name(),
        set_aside: Vec::new(),
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
