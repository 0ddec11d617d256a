//! The verdict over the candidates that are in: who voted, who won, and how all of them rank.

use std::borrow::Cow;

use super::election::{self, Class, Fallback, Voter};
use super::key::{Key, NumberedKey, Numbering};
use super::text::TextVote;
use super::{BEST, Ballot, Entry, Standing, Vote, Weighting, similarity};
use crate::config::run::ToolVote;

/// Which candidate is returned, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The index of the returned candidate.
    pub selected: usize,
    /// Every completed candidate by its index, the best first: the returned one, the others of its class, then
    /// class after class, and at last those that did not vote, the better founded first. Within a class the
    /// higher score comes first, or where there is none the likelier candidate; else the lower index.
    pub ranking: Vec<usize>,
    /// Class label and number of votes; the winner first, then by weight, then by lowest index. Empty where no
    /// classes were counted.
    pub response_counts: Vec<(String, usize)>,
    /// Class label and its share of the weight, which sum to 1, in the same order; where votes are weighted.
    pub weights: Option<Vec<(String, f64)>>,
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

impl Verdict {
    /// Whether classes of answers were counted, so that there are shares to tell of. The best by a score alone wins
    /// without any.
    pub fn has_classes(&self) -> bool {
        !self.response_counts.is_empty()
    }
}

/// A completed candidate that did not vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    pub candidate: usize,
    /// Why, in words for people.
    pub reason: Cow<'static, str>,
    /// Whether a client could do nothing with it: it breaks what the request asks for.
    pub is_invalid: bool,
}

/// Who votes among candidates, and who does not.
pub(super) struct Electorate<'a> {
    pub standing: Standing,
    pub by_tools: bool,
    /// The candidates of this standing that call tools, or those that answer in text.
    pub side: Vec<&'a Entry>,
    /// The others of this standing.
    pub other: Vec<&'a Entry>,
    /// Those of a worse standing.
    pub worse: Vec<&'a Entry>,
    /// Those of the side that have something to compare; `None` where too few have for a vote on it.
    pub voters: Option<Class<'a>>,
}

impl Ballot {
    /// The verdict over the candidates that are in; `None` when none has completed.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict_of_first(usize::MAX)
    }

    /// The verdict over those of the first `count` candidates by index that are in, whatever came in besides;
    /// `None` when none of them has completed.
    pub fn verdict_of_first(&self, count: usize) -> Option<Verdict> {
        let (entries, late) = self.entries.split_at(self.entries.partition_point(|entry| entry.index < count));
        let electorate = self.electorate(entries)?;
        let Electorate { standing, by_tools, side, other, .. } = &electorate;
        let mut notes = Vec::new();
        if *standing != BEST {
            let foremost = side.iter().chain(other).min_by_key(|entry| entry.index);
            let (index, fault) =
                foremost.map_or((0, ""), |entry| (entry.index, entry.fault.as_deref().unwrap_or_default()));
            let what = if standing.invalid {
                "no candidate is valid, so invalid ones voted"
            } else {
                "no valid candidate finished, so those cut off voted"
            };
            notes.push(format!("{what} (candidate {index}: {fault})"));
        }
        let counted = match &electorate.voters {
            Some(voters) => {
                notes.extend(self.note_on_weights(side, voters));
                let names =
                    if *by_tools { [self.tool_vote(), "tool_fields"] } else { [self.text_vote.name(), "json_fields"] };
                let weighted = self.weighting != Weighting::Equal;
                count_votes(voters.clone(), self.fallback(*by_tools), names, weighted)
            }
            None => {
                if !matches!(self.text_vote, TextVote::Similarity | TextVote::AnswerOrSimilarity) {
                    let name = self.text_vote.name();
                    notes.push(format!(
                        "every candidate abstained from the vote on {name}, so the most typical text is returned"
                    ));
                }
                if self.weighting != Weighting::Equal {
                    notes.push(format!(
                        "vote_weight `{}` was not used, since texts were compared by similarity",
                        self.weighting.name()
                    ));
                }
                most_typical(side)
            }
        };
        Some(Verdict { notes, ..self.with_those_aside(counted, electorate, late) })
    }

    /// The candidates whose votes are compared, lowest index first: those that a score can make a difference to.
    pub fn voting(&self) -> Vec<usize> {
        let voters = self.electorate(&self.entries).and_then(|electorate| electorate.voters).unwrap_or_default();
        voters.iter().map(|voter| voter.index).collect()
    }

    /// Who votes among these candidates; `None` for none.
    pub(super) fn electorate<'a>(&self, entries: &'a [Entry]) -> Option<Electorate<'a>> {
        let standing = entries.iter().map(|entry| entry.standing).min()?;
        let (pool, worse): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| entry.standing == standing);
        let with_tools = pool.iter().filter(|entry| entry.has_tools()).count();
        let by_tools = with_tools > 0 && with_tools * 2 >= pool.len();
        let (side, other): (Vec<&Entry>, Vec<&Entry>) =
            pool.into_iter().partition(|entry| entry.has_tools() == by_tools);
        let voters = if by_tools {
            Some(self.voters(&side, Entry::tool_key))
        } else {
            let voters = self.voters(&side, Entry::text_key);
            let too_few = match self.text_vote {
                TextVote::Similarity => true,
                TextVote::AnswerOrSimilarity => voters.is_empty() || voters.len() * 2 < side.len(),
                _ => voters.is_empty(),
            };
            (!too_few).then_some(voters)
        };
        Some(Electorate { standing, by_tools, side, other, worse, voters })
    }

    pub(super) fn fallback(&self, by_tools: bool) -> Fallback {
        if by_tools { self.tool_fallback() } else { self.text_fallback() }
    }

    /// The verdict with the candidates that did not vote, and the reason for each.
    fn with_those_aside(&self, mut verdict: Verdict, electorate: Electorate<'_>, late: &[Entry]) -> Verdict {
        let Electorate { by_tools, side, other, mut worse, voters, .. } = electorate;
        let otherwise = if by_tools {
            "answered in text while at least half of the candidates call tools"
        } else {
            "calls tools while more than half of the candidates answer in text"
        };
        let silent = side.iter().filter(|entry| voters.is_some() && entry.text_key().or(entry.tool_key()).is_none());
        worse.sort_by_key(|entry| (entry.standing, entry.index));
        let aside = silent
            .map(|entry| entry.set_aside(Cow::Borrowed(self.text_vote.abstention())))
            .chain(other.iter().map(|entry| entry.set_aside(Cow::Borrowed(otherwise))))
            .chain(worse.iter().map(|entry| entry.set_aside(entry.fault.clone().unwrap_or_default())))
            .chain(
                late.iter()
                    .map(|entry| entry.set_aside(Cow::Borrowed("came after the candidates that settled the vote"))),
            );
        verdict.set_aside = aside.collect();
        verdict.ranking.extend(verdict.set_aside.iter().map(|aside| aside.candidate));
        verdict.set_aside.sort_by_key(|aside| aside.candidate);
        verdict
    }

    /// In words, whose weight is not known.
    fn note_on_weights(&self, side: &[&Entry], voters: &[Voter<'_>]) -> Option<String> {
        let is_unknown =
            |voter: &&Voter<'_>| side.iter().any(|entry| entry.index == voter.index && entry.weight.is_none());
        let (unknown, all) = (voters.iter().filter(is_unknown).count(), voters.len());
        match self.weighting {
            Weighting::Confidence { .. } if unknown == all && all > 1 => {
                Some("no vote has log-probabilities to be weighed by, so all weigh the same".to_owned())
            }
            Weighting::Confidence { .. } if unknown > 0 && unknown < all => Some(format!(
                "{unknown} of {all} votes have no log-probabilities to be weighed by and weigh the mean of the others"
            )),
            // Why nobody has a score is for those to say who were to give them.
            Weighting::Scores if unknown > 0 && unknown < all => Some(format!(
                "{unknown} of {all} votes have no score to be weighed by and weigh the mean of the others"
            )),
            Weighting::Equal | Weighting::Confidence { .. } | Weighting::Scores => None,
        }
    }

    fn tool_vote(&self) -> &'static str {
        match self.rules.tool_vote {
            ToolVote::ToolName => "tool_name",
            ToolVote::ToolArgs => "tool_args",
            ToolVote::ToolHierarchical => "tool_hierarchical",
            ToolVote::ToolSet => "tool_set",
        }
    }
}

impl Entry {
    pub(super) fn set_aside(&self, reason: Cow<'static, str>) -> SetAside {
        SetAside { candidate: self.index, reason, is_invalid: self.standing.invalid }
    }
}

/// The verdict of a vote with at least one voter; `names` are the vote's own and that of its fallback.
fn count_votes(voters: Class<'_>, fallback: Fallback, names: [&'static str; 2], weighted: bool) -> Verdict {
    let mut classes = election::classes(&voters);
    let total = election::weight(&voters);
    let agreement = |winner: &Class<'_>| winner.len() as f64 / voters.len() as f64;
    let (winner, by_fields) = election::elect(voters.clone(), fallback);
    let first = winner[0].index;
    // The sort is stable, so that classes of one weight stay in the order of their lowest index.
    classes.sort_by(|a, b| {
        let lost = |class: &Class<'_>| class[0].index != first;
        lost(a).cmp(&lost(b)).then(election::weight(b).total_cmp(&election::weight(a)))
    });
    let selected = election::spokesman(&winner).index;
    let share = |class: &Class<'_>| (class[0].key.label(), election::weight(class) / total);
    Verdict {
        selected,
        ranking: ranking(selected, &classes),
        response_counts: classes.iter().map(|class| (class[0].key.label(), class.len())).collect(),
        weights: weighted.then(|| classes.iter().map(share).collect()),
        agreement: agreement(&winner),
        vote: names[usize::from(by_fields)],
        set_aside: Vec::new(),
        notes: Vec::new(),
    }
}

/// The verdict where texts have no classes: the medoid. Equal texts are counted as one.
fn most_typical(side: &[&Entry]) -> Verdict {
    fn text(entry: &Entry) -> &str {
        match &entry.vote {
            Vote::Text { text, .. } => text.trim(),
            Vote::Tools(_) => "",
        }
    }
    let texts: Vec<&str> = side.iter().map(|entry| text(entry)).collect();
    let medoid = similarity::medoid(&texts).unwrap_or(0);
    let mut numbering = Numbering::default();
    let keys: Vec<NumberedKey> = texts.iter().map(|text| numbering.number(Key::single((*text).to_owned()))).collect();
    let voter = |(entry, key): (&&Entry, _)| Voter {
        index: entry.index,
        logprob: entry.logprob,
        weight: 1.0,
        confidence: None,
        merit: entry.logprob,
        key,
    };
    let voters: Class<'_> = side.iter().zip(&keys).map(voter).collect();
    let mut classes = election::classes(&voters);
    classes.sort_by_key(|class| (class[0].key.levels != keys[medoid].levels, std::cmp::Reverse(class.len())));
    let selected = side[medoid].index;
    Verdict {
        selected,
        ranking: ranking(selected, &classes),
        agreement: classes[0].len() as f64 / side.len() as f64,
        response_counts: classes.iter().map(|class| (class[0].key.label(), class.len())).collect(),
        weights: None,
        vote: TextVote::Similarity.name(),
        set_aside: Vec::new(),
        notes: Vec::new(),
    }
}

/// The voters by index, the best first, when these are their classes in order.
fn ranking(selected: usize, classes: &[Class<'_>]) -> Vec<usize> {
    let members = classes.iter().flat_map(|class| election::by_merit(class)).map(|voter| voter.index);
    std::iter::once(selected).chain(members.filter(|index| *index != selected)).collect()
}
