//! Who is taken in, and who starts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{ActiveJob, Running, Stage, UnstartedPath, Worker, active_mut, count, shelving};
use crate::llama::candidate::Candidate;
use crate::llama::cells::Span;
use crate::llama::context::SequenceId;
use crate::llama::engine::{QueuedJob, Work};
use crate::llama::prefixes::Held;
use crate::llama::scheduler::{Demand, Kind, Lack, Start};

/// Jobs at the same time, each of which has a sequence for its prompt: the rest is left to candidates.
const MOST_JOBS: usize = 120;

impl Worker<'_> {
    /// Admits whom there is room for, in their order, those first whose prompt was given up. Whether there was anybody.
    pub(super) fn admit(&mut self, line: &mut VecDeque<QueuedJob>) -> bool {
        let mut admitted = self.bring_back();
        let is_crowded = self.is_crowded && !self.running.is_empty();
        let mut next = 0;
        while let Some(job) = line.get(next).filter(|_| !is_crowded && !self.jobs.iter().any(|active| active.is_out)) {
            match self.find_room(job) {
                Ok((demand, held, spare)) => {
                    let job = line.remove(next).expect("it is there");
                    self.take_in(job, demand, held, spare);
                    admitted = true;
                }
                // Who waits for places of searches holds up nobody who needs none.
                Err(Lack::Places) => next += 1,
                Err(Lack::Cells) => break,
            }
        }
        if line.is_empty() {
            self.scheduler.line_is_empty();
        }
        admitted
    }

    /// Reads prompts again that were given up, as far as there is room for them and for a candidate. Whether there was.
    fn bring_back(&mut self) -> bool {
        let mut came = false;
        while !self.is_crowded
            && let Some(position) = self.jobs.iter().position(|active| active.is_out)
        {
            let active = &self.jobs[position];
            let (id, tokens) = (active.job.id, Arc::clone(&active.job.tokens));
            let needed = self.prefixes.cells_for(&tokens).saturating_add(active.job.tokens_expected);
            if needed > self.cells.free().saturating_add(self.prefixes.evictable_for(&tokens)) {
                break;
            }
            let (context, shelf) = (&mut self.context, &mut self.shelf);
            let free = |evicted| shelving::shelve(context, shelf, evicted);
            let Some(held) = self.prefixes.hold(&tokens, &self.cells, &mut self.free_sequences, free) else { break };
            let active = &mut self.jobs[position];
            active.prompt = held.sequence;
            active.is_out = false;
            if self.prefixes.row(held.sequence).is_some() {
                self.job_is_ready(id);
            }
            came = true;
        }
        came
    }

    /// Room for a job's prompt and for its first candidate, at the cost of prompts that nobody holds.
    fn find_room(&mut self, job: &QueuedJob) -> Result<(Demand, Held, Span), Lack> {
        if self.jobs.len() >= MOST_JOBS {
            return Err(Lack::Places);
        }
        let is_scored = matches!(job.work, Work::Score(_));
        let demand = Demand {
            prompt_cells: if is_scored { count(job.tokens.len()) } else { self.prefixes.cells_for(&job.tokens) },
            candidate_cells: job.tokens_expected,
            kind: match &job.work {
                Work::Answers(candidates) => Kind::Answers(candidates.len()),
                Work::Search { paths, .. } => Kind::Paths(paths.len()),
                Work::Score(_) => Kind::Answers(0),
            },
        };
        self.scheduler.fits(&demand, self.prefixes.evictable_for(&job.tokens))?;
        if !is_scored && self.wanted_for != Some(job.id) && self.on_shelf(&job.tokens, job.tokens_expected).is_some() {
            // It comes in as soon as that was tried, whatever came of it.
            self.wanted_for = Some(job.id);
            self.wanted = Some((Arc::clone(&job.tokens), job.tokens_expected));
            return Err(Lack::Cells);
        }
        let held = self.hold(job);
        let spare = held.and_then(|held| {
            let span = self.take_cells(demand.candidate_cells, Some(self.prefixes.span(held.sequence).clone()));
            if span.is_none() {
                self.give_up_prompt(held.sequence);
            }
            span
        });
        match (held, spare) {
            (Some(held), Some(spare)) => Ok((demand, held, spare)),
            _ => {
                self.scheduler.next_waits();
                Err(Lack::Cells)
            }
        }
    }

    fn hold(&mut self, job: &QueuedJob) -> Option<Held> {
        let (context, shelf) = (&mut self.context, &mut self.shelf);
        let free = |evicted| shelving::shelve(context, shelf, evicted);
        match job.work {
            Work::Score(_) => self.prefixes.hold_to_score(&job.tokens, &self.cells, &mut self.free_sequences, free),
            _ => self.prefixes.hold(&job.tokens, &self.cells, &mut self.free_sequences, free),
        }
    }

    pub(super) fn take_cells(&mut self, cells: u32, below: Option<Span>) -> Option<Span> {
        loop {
            if let Some(span) = self.cells.take(cells, below.clone()) {
                return Some(span);
            }
            if !self.evict_one() {
                return None;
            }
        }
    }

    fn take_in(&mut self, job: QueuedJob, demand: Demand, held: Held, spare: Span) {
        self.shared.gauges.shared_tokens.fetch_add(held.shared as u64, Ordering::Relaxed);
        self.scheduler.admit(job.id, demand, spare);
        let unstarted = match &job.work {
            Work::Answers(_) | Work::Score(_) => Vec::new(),
            Work::Search { paths, .. } => {
                paths.iter().map(|(id, seed)| UnstartedPath { id: *id, seed: *seed, told: None }).collect()
            }
        };
        let mut active = ActiveJob {
            has_one_answer: matches!(&job.work, Work::Answers(candidates) if candidates.len() == 1),
            job,
            prompt: held.sequence,
            shared: held.shared,
            is_ready: false,
            was_read: false,
            is_out: false,
            running: 0,
            is_prompt_told: false,
            unstarted,
            lost: Vec::new(),
        };
        if self.prefixes.row(held.sequence).is_some() {
            active.is_read(&mut self.scheduler);
        }
        self.jobs.push(active);
        self.somebody_came = true;
    }

    /// Lets prompts share what others have evaluated by now.
    pub(super) fn share_prefixes(&mut self) {
        let (shared, emptied) = self.prefixes.shareable();
        for sharing in shared {
            let done = self.context.share(sharing.from, sharing.to, sharing.length);
            done.expect("what is shared was evaluated, and whoever shares it has nothing yet");
        }
        self.empty(emptied);
    }

    /// Starts candidates as long as there is room. Whether one did.
    pub(super) fn start_candidates(&mut self) -> bool {
        let mut started = false;
        while self.scheduler.has_waiting() && self.has_sequence() {
            let evictable = self.prefixes.kept_cells();
            let Some(start) = self.scheduler.start_next(self.is_crowded, evictable) else { break };
            self.start(start);
            started = true;
        }
        started
    }

    /// Whether a sequence is free, or becomes so.
    pub(super) fn has_sequence(&mut self) -> bool {
        !self.free_sequences.is_empty() || self.evict_one()
    }

    fn start(&mut self, start: Start) {
        let Start { job, cells, spare } = start;
        let active = active_mut(&mut self.jobs, job);
        active.running += 1;
        let prompt = active.prompt;
        let (request, length) = (Arc::clone(&active.job.request), active.job.tokens.len());
        let (seat, path, seed, told) = match &mut active.job.work {
            Work::Answers(candidates) => {
                let (seat, seed) = candidates.pop_front().expect("the scheduler counts the candidates");
                (Some(seat), None, seed, None)
            }
            Work::Search { .. } => {
                let position = active.unstarted.iter().position(|path| path.told.is_some());
                let path = active.unstarted.remove(position.expect("the scheduler counts those that were told to"));
                (None, Some(path.id), path.seed, path.told)
            }
            Work::Score(_) => unreachable!("the scheduler knows of no candidates of a prompt that is scored"),
        };
        let candidate = Candidate::new(seat, seed, &request, &active.job.tokens);
        let below = self.prefixes.span(prompt).clone();
        let span = match spare {
            Some(spare) => {
                spare.stand_on(below);
                spare
            }
            // The scheduler has seen that so many are free or can be.
            None => self.take_cells(cells, Some(below.clone())).unwrap_or_else(|| below.branch()),
        };
        let sequence = self.free_sequences.pop().expect("whoever starts one has seen to it");
        let row = Arc::clone(self.prefixes.row(prompt).expect("the prompt has been read"));
        let shared = self.context.share(prompt, sequence, count(length));
        self.running.push(Running {
            job,
            prompt,
            sequence,
            span,
            base: 0,
            tokens: Vec::new(),
            evaluated: 0,
            candidate,
            path,
            stage: Stage::Drawing,
            told,
        });
        let position = self.running.len() - 1;
        if let Err(error) = shared {
            return self.end_candidate(position, Err(super::internal(&error)));
        }
        self.draw(position, &row);
    }

    /// Lets a candidate draw its next token from these logits.
    pub(super) fn draw(&mut self, position: usize, row: &[f32]) {
        self.shared.gauges.generated_tokens.fetch_add(1, Ordering::Relaxed);
        let next = self.running[position].advance(row, &self.jobs, self.vocabulary, &mut self.scratch);
        self.go_on(position, next);
    }

    /// Removes one prompt that nobody holds. False: there is none.
    pub(super) fn evict_one(&mut self) -> bool {
        let Some(evicted) = self.prefixes.evict() else { return false };
        self.put_away(evicted);
        true
    }

    /// Gives up a job's hold on its prompt.
    pub(super) fn give_up_prompt(&mut self, prompt: SequenceId) {
        let emptied = self.prefixes.release(prompt);
        // What was not read to its end is kept as far as it was.
        self.empty(emptied);
        for evicted in self.prefixes.evict_surplus() {
            self.put_away(evicted);
        }
    }

    /// Empties sequences, which are free then.
    pub(super) fn empty(&mut self, sequences: impl IntoIterator<Item = SequenceId>) {
        for sequence in sequences {
            self.context.remove(sequence).expect("the sequence exists, and no batch is pending");
            self.free_sequences.push(sequence);
        }
    }
}
