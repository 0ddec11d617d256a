//! How the votes stand among the first candidates by index: what stop rules look at.

use std::ops::Range;

use super::election;
use super::verdict::Electorate;
use super::{BEST, Ballot, Entry};

/// How the vote of the first candidates stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    /// The lead at each level of the keys, in the order in which they are voted; never empty.
    pub leads: Vec<Lead>,
    /// Votes for the class that leads at every level, each counted as one.
    pub votes: usize,
    /// What this class holds of the valid and finished candidates, abstentions and candidates of the other side
    /// (tools or text) included; above 0 and up to 1. A vote is worth its weight.
    pub share: f64,
}

/// The two heaviest classes of one level, in votes: where votes are weighted, in multiples of their mean weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lead {
    pub leading: f64,
    /// At the first level also the number of candidates of the other side (tools or text), if that is more: they
    /// would have to be outvoted too.
    pub runner_up: f64,
}

impl Ballot {
    /// How many candidates have ended without a gap, from the first on.
    pub fn ended_prefix(&self) -> usize {
        self.ended.iter().take_while(|ended| **ended).count()
    }

    /// How many of the first `count` candidates have completed.
    pub fn completed_among(&self, count: usize) -> usize {
        self.entries.partition_point(|entry| entry.index < count)
    }

    /// How the vote of the first `count` candidates stands. `None` while it has no leader that a class of votes
    /// could keep: nobody has voted, only invalid or cut off candidates have, or the winner is found by similarity
    /// or field by field.
    pub fn tally(&self, count: usize) -> Option<Tally> {
        let Electorate { standing, by_tools, side, other, voters, .. } =
            self.electorate(&self.entries[..self.completed_among(count)])?;
        let mut left = voters?;
        let fallback = self.fallback(by_tools);
        if standing != BEST || election::elect(left.clone(), fallback).1 {
            return None;
        }
        let scale = left.len() as f64 / election::weight(&left);
        let mut rivals = other.len() as f64;
        let mut leads = Vec::new();
        for level in 0..left.first()?.key.levels.len() {
            let mut classes = election::classes_at(&left, level);
            left = classes.swap_remove(election::leader(&classes));
            let runner_up = classes.iter().map(|class| election::weight(class) * scale).fold(rivals, f64::max);
            leads.push(Lead { leading: election::weight(&left) * scale, runner_up });
            rivals = 0.0;
        }
        let share = leads.last()?.leading / (side.len() + other.len()) as f64;
        Some(Tally { leads, votes: left.len(), share })
    }

    /// Whether all of these candidates have completed, are valid and finished, and vote for one class. A candidate
    /// that failed or abstained breaks the unanimity.
    pub fn is_unanimous(&self, candidates: Range<usize>) -> bool {
        let entries = &self.entries[self.completed_among(candidates.start)..self.completed_among(candidates.end)];
        fn vote(entry: &Entry) -> Option<(bool, &[u32])> {
            let key = entry.tool_key().or(entry.text_key())?;
            (entry.standing == BEST).then(|| (entry.has_tools(), key.levels.as_slice()))
        }
        let Some(first) = entries.first().and_then(vote) else { return false };
        entries.len() == candidates.len() && entries.iter().all(|entry| vote(entry).as_ref() == Some(&first))
    }
}
