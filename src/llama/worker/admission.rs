//! Who is taken in, and who starts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{ActiveJob, Running, Stage, UnstartedPath, Worker, active_mut, count};
use crate::llama::candidate::Candidate;
use crate::llama::cells::Span;
use crate::llama::context::SequenceId;
use crate::llama::engine::{QueuedJob, Work};
use crate::llama::prefixes::Held;
use crate::llama::scheduler::{Demand, Kind, Lack, Start};

impl Worker<'_> {
    /// Admits whom there is room for, in their order. Whether there was anybody.
    pub(super) fn admit(&mut self, line: &mut VecDeque<QueuedJob>) -> bool {
        let is_crowded = self.is_crowded && !self.running.is_empty();
        let mut admitted = false;
        while let Some(job) = line.front().filter(|_| !is_crowded) {
            let Some((demand, held, spare)) = self.find_room(job) else { break };
            let job = line.pop_front().expect("it is at the front");
            self.take_in(job, demand, held, spare);
            admitted = true;
        }
        if line.is_empty() {
            self.scheduler.line_is_empty();
        }
        admitted
    }

    /// Room for a job's prompt and for its first candidate, at the cost of prompts that nobody holds.
    fn find_room(&mut self, job: &QueuedJob) -> Option<(Demand, Held, Span)> {
        let demand = loop {
            let is_scored = matches!(job.work, Work::Score(_));
            let whole = count(job.tokens.len());
            let demand = Demand {
                prompt_cells: if is_scored { whole } else { self.prefixes.cells_for(&job.tokens) },
                candidate_cells: job.tokens_expected,
                limit_cells: job.tokens_per_candidate,
                kind: match &job.work {
                    Work::Answers(candidates) => Kind::Answers(candidates.len()),
                    Work::Search { paths, .. } => Kind::Paths(paths.len()),
                    Work::Score(_) => Kind::Answers(0),
                },
            };
            let prompts = match is_scored {
                true => self.prefixes.held_cells() + u64::from(whole),
                false => self.prefixes.held_cells_with(&job.tokens),
            };
            match self.scheduler.fits(&demand, prompts, self.prefixes.kept_cells()) {
                Ok(()) => break demand,
                Err(Lack::Places) => return None,
                Err(Lack::Cells) if self.evict_one() => {}
                Err(Lack::Cells) => return None,
            }
        };
        let held = self.hold(job);
        let spare = held.and_then(|held| {
            let span = self.take_cells(demand.candidate_cells, self.prefixes.span(held.sequence).clone());
            if span.is_none() {
                self.give_up_prompt(held.sequence);
            }
            span
        });
        if spare.is_none() {
            self.scheduler.next_waits();
        }
        Some((demand, held?, spare?))
    }

    fn hold(&mut self, job: &QueuedJob) -> Option<Held> {
        let context = &mut self.context;
        let empty = |sequence| context.remove(sequence).expect("sequences of prompts exist, and no batch is pending");
        match job.work {
            Work::Score(_) => self.prefixes.hold_to_score(&job.tokens, &self.cells, &mut self.free_sequences, empty),
            _ => self.prefixes.hold(&job.tokens, &self.cells, &mut self.free_sequences, empty),
        }
    }

    fn take_cells(&mut self, cells: u32, below: Span) -> Option<Span> {
        loop {
            if let Some(span) = self.cells.take(cells, Some(below.clone())) {
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
            running: 0,
            is_prompt_told: false,
            unstarted,
            lost: Vec::new(),
        };
        if self.prefixes.row(held.sequence).is_some() {
            active.is_read(&mut self.scheduler);
        }
        self.jobs.push(active);
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
            None => self.take_cells(cells, below.clone()).unwrap_or_else(|| below.branch()),
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
        let running = &mut self.running[position];
        let active = super::active(&self.jobs, running.job);
        let next = running.candidate.advance(
            row,
            active.job.tokens_per_candidate,
            &active.job.request,
            self.vocabulary,
            &mut self.scratch,
        );
        self.go_on(position, next);
    }

    /// Removes one prompt that nobody holds. False: there is none.
    pub(super) fn evict_one(&mut self) -> bool {
        let Some(sequence) = self.prefixes.evict() else { return false };
        self.empty([sequence]);
        true
    }

    /// Gives up a job's hold on its prompt.
    pub(super) fn give_up_prompt(&mut self, prompt: SequenceId) {
        let emptied = self.prefixes.release(prompt);
        // What was not read to its end is kept as far as it was.
        self.empty(emptied);
        let surplus = self.prefixes.evict_surplus();
        self.empty(surplus);
    }

    /// Empties sequences, which are free then.
    pub(super) fn empty(&mut self, sequences: impl IntoIterator<Item = SequenceId>) {
        for sequence in sequences {
            self.context.remove(sequence).expect("the sequence exists, and no batch is pending");
            self.free_sequences.push(sequence);
        }
    }
}
