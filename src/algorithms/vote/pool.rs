//! The candidates that a choice is made among, for those who choose by something else than a count of votes.

use std::borrow::Cow;

use super::{BEST, Ballot, Entry, SetAside, TextVote, Vote};

/// The completed candidates of the best standing that there is: valid ones if there are any, finished ones if there are.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::algorithms) struct Pool {
    /// Lowest index first; never empty.
    pub members: Vec<Member>,
    /// Completed candidates of a worse standing, lowest index first.
    pub set_aside: Vec<SetAside>,
    /// What a reader should know about it, in sentences without a full stop.
    pub notes: Vec<String>,
}

/// A candidate of the pool.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::algorithms) struct Member {
    pub candidate: usize,
    /// The label of the class that it votes for; `None` for one that abstains, and where texts have no classes.
    pub class: Option<String>,
}

impl Ballot {
    /// The candidates worth choosing among; `None` when none has completed.
    pub(in crate::algorithms) fn pool(&self) -> Option<Pool> {
        let standing = self.entries.iter().map(|entry| entry.standing).min()?;
        let (pool, worse): (Vec<&Entry>, Vec<&Entry>) =
            self.entries.iter().partition(|entry| entry.standing == standing);
        let texts = pool.iter().filter(|entry| !entry.has_tools()).count();
        let answers = pool.iter().filter(|entry| entry.text_key().is_some()).count();
        let texts_have_classes = self.text_vote != TextVote::AnswerOrSimilarity || answers * 2 >= texts;
        let class = |entry: &Entry| match &entry.vote {
            Vote::Tools(key) => Some(key.label()),
            Vote::Text { key, .. } => key.as_ref().filter(|_| texts_have_classes).map(super::NumberedKey::label),
        };
        let mut notes = Vec::new();
        if standing != BEST {
            let fault = pool[0].fault.as_deref().unwrap_or_default();
            let what = if standing.invalid { "no candidate is valid" } else { "no valid candidate finished" };
            notes.push(format!("{what} (candidate {}: {fault})", pool[0].index));
        }
        Some(Pool {
            members: pool.iter().map(|entry| Member { candidate: entry.index, class: class(entry) }).collect(),
            set_aside: worse
                .iter()
                .map(|entry| entry.set_aside(entry.fault.clone().unwrap_or(Cow::Borrowed(""))))
                .collect(),
            notes,
        })
    }
}
