//! Who may start next: sequence ids and cache cells, counted without touching llama.cpp.
//!
//! Most answers are far shorter than they may be. So a candidate starts when the length that is expected of
//! it fits, and its part grows with it while cells are free. A job is admitted when its prompt and one
//! candidate fit; its other candidates start as room allows, always of the job that has the fewest running,
//! so that a job of one candidate is not slowed by a job of a thousand. Jobs are admitted in the order in
//! which they came: none is overtaken for ever.
//!
//! Prompts never take the room that the longest answer may come to need. When nobody can grow any more, the
//! youngest candidates are therefore set aside until the oldest can, and it comes to its end.

use std::collections::HashMap;

use super::context::SequenceId;

/// What there is to give out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Cache cells, one a token and layer stack.
    pub(super) cells: u32,
    /// Prompts held at the same time.
    pub(super) prompts: u32,
    /// Candidates generated at the same time.
    pub(super) sequences: u32,
}

/// What a job may come to need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    /// Cells of the prompt, which its candidates share.
    pub(super) prompt_cells: u32,
    /// Cells with which one candidate starts.
    pub(super) candidate_cells: u32,
    /// Cells that one candidate fills when it grows to its limit; with the prompt they fit the cache.
    pub(super) limit_cells: u32,
    pub(super) candidates: usize,
}

/// The ledger of sequence ids and cells. A job is known by its prompt's sequence id.
#[derive(Debug)]
pub(super) struct Scheduler {
    room: Room,
    cells_reserved: u32,
    free_prompts: Vec<SequenceId>,
    free_sequences: Vec<SequenceId>,
    /// The part of each running candidate.
    parts: HashMap<SequenceId, u32>,
    /// In the order in which they last started a candidate.
    shares: Vec<Share>,
    /// The next job in line does not fit yet.
    next_waits_for_cells: bool,
}

#[derive(Debug)]
struct Share {
    prompt: SequenceId,
    demand: Demand,
    waiting: usize,
    live: usize,
    prompt_ready: bool,
    /// Cells for one candidate are reserved although none runs.
    holds_spare: bool,
}

impl Scheduler {
    /// Prompts get the ids from 0 on, candidates those after them.
    pub(super) fn new(room: Room) -> Self {
        Self {
            room,
            cells_reserved: 0,
            free_prompts: (0..room.prompts).rev().map(SequenceId).collect(),
            free_sequences: (room.prompts..room.prompts + room.sequences).rev().map(SequenceId).collect(),
            parts: HashMap::new(),
            shares: Vec::new(),
            next_waits_for_cells: false,
        }
    }

    /// Takes in the next job in line, or says that it must wait.
    pub(super) fn admit(&mut self, demand: Demand) -> Option<SequenceId> {
        let cells = demand.prompt_cells + demand.candidate_cells;
        let demands = || self.shares.iter().map(|share| share.demand).chain([demand]);
        let prompts: u64 = demands().map(|demand| u64::from(demand.prompt_cells)).sum();
        let longest = demands().map(|demand| u64::from(demand.limit_cells)).max().unwrap_or(0);
        self.next_waits_for_cells = cells > self.cells_free() || prompts + longest > self.room.cells.into();
        if self.next_waits_for_cells {
            return None;
        }
        let prompt = self.free_prompts.pop()?;
        self.cells_reserved += cells;
        self.shares.push(Share {
            prompt,
            demand,
            waiting: demand.candidates,
            live: 0,
            prompt_ready: false,
            holds_spare: true,
        });
        Some(prompt)
    }

    /// Nobody waits to be admitted any more, so that no room is kept for the next in line.
    pub(super) fn line_is_empty(&mut self) {
        self.next_waits_for_cells = false;
    }

    /// The job's prompt is evaluated: its candidates may start.
    pub(super) fn prompt_is_ready(&mut self, prompt: SequenceId) {
        self.share(prompt).prompt_ready = true;
    }

    /// Chooses the job whose next candidate starts now, and the sequence id that it gets. While candidates
    /// wait to grow, only those start for which room is already held.
    pub(super) fn start_next(&mut self, others_wait_to_grow: bool) -> Option<(SequenceId, SequenceId)> {
        if self.free_sequences.is_empty() {
            return None;
        }
        // `min_by_key` takes the first of equals, which is the one that has waited longest.
        let (position, _) = self
            .shares
            .iter()
            .enumerate()
            .filter(|(_, share)| share.waiting > 0 && share.prompt_ready)
            .filter(|(_, share)| share.holds_spare || (!others_wait_to_grow && self.may_start(share)))
            .min_by_key(|(_, share)| share.live)?;
        let sequence = self.free_sequences.pop().expect("checked above");
        let mut share = self.shares.remove(position);
        share.waiting -= 1;
        share.live += 1;
        if !std::mem::take(&mut share.holds_spare) {
            self.cells_reserved += share.demand.candidate_cells;
        }
        let prompt = share.prompt;
        self.parts.insert(sequence, share.demand.candidate_cells);
        self.shares.push(share);
        Some((prompt, sequence))
    }

    /// Whether the part of a running candidate has this many cells.
    pub(super) fn covers(&self, sequence: SequenceId, cells: u32) -> bool {
        self.parts[&sequence] >= cells
    }

    /// Lets the part of a running candidate grow to this many cells, if they are free.
    pub(super) fn grow(&mut self, sequence: SequenceId, cells: u32) -> bool {
        let more = cells.saturating_sub(self.parts[&sequence]);
        if more > self.cells_free() {
            return false;
        }
        self.cells_reserved += more;
        *self.parts.entry(sequence).or_default() += more;
        true
    }

    /// Frees the part of a running candidate, which keeps its sequence but none of its cells. False: it had
    /// none.
    pub(super) fn set_aside(&mut self, sequence: SequenceId) -> bool {
        let part = self.parts.insert(sequence, 0).unwrap_or(0);
        self.cells_reserved -= part;
        part > 0
    }

    /// Frees the room that a job holds for a candidate that does not run yet. False: none does. The job starts
    /// its candidate as soon as there is room for it again.
    pub(super) fn take_back_spare(&mut self) -> bool {
        let Some(share) = self.shares.iter_mut().rev().find(|share| share.holds_spare) else { return false };
        share.holds_spare = false;
        self.cells_reserved -= share.demand.candidate_cells;
        true
    }

    /// A candidate has ended and its sequence is empty again.
    pub(super) fn finished(&mut self, prompt: SequenceId, sequence: SequenceId) {
        self.free_sequences.push(sequence);
        let part = self.parts.remove(&sequence).unwrap_or(0);
        let share = self.share(prompt);
        share.live -= 1;
        // The last room of a job with candidates to come is kept: it was admitted on the promise of it.
        let spare = share.demand.candidate_cells;
        share.holds_spare = share.live == 0 && share.waiting > 0 && part >= spare;
        let kept = if share.holds_spare { spare } else { 0 };
        self.cells_reserved -= part - kept;
    }

    /// The job is over: all its candidates have ended or will not start, and its prompt is gone.
    pub(super) fn retire(&mut self, prompt: SequenceId) {
        let position = self.position(prompt);
        let share = self.shares.remove(position);
        debug_assert_eq!(share.live, 0, "a job is retired after its candidates");
        let spare = if share.holds_spare { share.demand.candidate_cells } else { 0 };
        self.cells_reserved -= share.demand.prompt_cells + spare;
        self.free_prompts.push(prompt);
    }

    pub(super) fn cells_reserved(&self) -> u32 {
        self.cells_reserved
    }

    fn cells_free(&self) -> u32 {
        self.room.cells - self.cells_reserved
    }

    fn may_start(&self, share: &Share) -> bool {
        let fits = share.demand.candidate_cells <= self.cells_free();
        if !self.next_waits_for_cells || share.live == 0 {
            return fits;
        }
        // Someone waits for cells: a job refills only up to an equal part, so that the rest gathers.
        let part = u64::from(self.room.cells) / (self.shares.len() as u64 + 1);
        let used =
            u64::from(share.demand.prompt_cells) + u64::from(share.demand.candidate_cells) * (share.live as u64 + 1);
        fits && used <= part
    }

    fn share(&mut self, prompt: SequenceId) -> &mut Share {
        let position = self.position(prompt);
        &mut self.shares[position]
    }

    fn position(&self, prompt: SequenceId) -> usize {
        self.shares.iter().position(|share| share.prompt == prompt).expect("only admitted jobs are asked about")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler(cells: u32, sequences: u32) -> Scheduler {
        Scheduler::new(Room { cells, prompts: 4, sequences })
    }

    fn demand(prompt_cells: u32, candidate_cells: u32, candidates: usize) -> Demand {
        Demand { prompt_cells, candidate_cells, limit_cells: candidate_cells, candidates }
    }

    fn started(scheduler: &mut Scheduler) -> Vec<(SequenceId, SequenceId)> {
        std::iter::from_fn(|| scheduler.start_next(false)).collect()
    }

    #[test]
    fn a_large_budget_refills_the_sequences_that_end() {
        let mut scheduler = scheduler(1000, 3);
        let job = scheduler.admit(demand(10, 10, 8)).unwrap();
        assert_eq!(scheduler.start_next(false), None, "the prompt is not evaluated yet");
        scheduler.prompt_is_ready(job);
        let mut running = started(&mut scheduler);
        let mut total = running.len();
        assert_eq!(total, 3);
        while let Some((prompt, sequence)) = running.pop() {
            scheduler.finished(prompt, sequence);
            let more = started(&mut scheduler);
            total += more.len();
            running.extend(more);
        }
        assert_eq!(total, 8);
        scheduler.retire(job);
        assert_eq!(scheduler.cells_reserved(), 0);
    }

    #[test]
    fn sequence_ids_are_given_to_one_holder_at_a_time() {
        let mut scheduler = scheduler(1000, 4);
        let first = scheduler.admit(demand(1, 1, 10)).unwrap();
        let second = scheduler.admit(demand(1, 1, 10)).unwrap();
        scheduler.prompt_is_ready(first);
        scheduler.prompt_is_ready(second);
        let mut ids: Vec<u32> = started(&mut scheduler).into_iter().map(|(_, sequence)| sequence.0).collect();
        ids.extend([first.0, second.0]);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 6);
    }

    #[test]
    fn a_newcomer_gets_the_next_free_sequences_until_the_parts_are_equal() {
        let mut scheduler = scheduler(1000, 4);
        let old = scheduler.admit(demand(1, 1, 100)).unwrap();
        scheduler.prompt_is_ready(old);
        let mut running = started(&mut scheduler);
        assert_eq!(running.len(), 4);
        let new = scheduler.admit(demand(1, 1, 100)).unwrap();
        scheduler.prompt_is_ready(new);
        for (expected_old, expected_new) in [(3, 1), (2, 2), (2, 2)] {
            let of_old = running.iter().position(|(prompt, _)| *prompt == old).unwrap();
            let (prompt, sequence) = running.remove(of_old);
            scheduler.finished(prompt, sequence);
            running.extend(started(&mut scheduler));
            let count = |job| running.iter().filter(|(prompt, _)| *prompt == job).count();
            assert_eq!((count(old), count(new)), (expected_old, expected_new));
        }
    }

    #[test]
    fn no_candidate_starts_for_which_there_is_no_room() {
        let mut scheduler = scheduler(100, 8);
        let job = scheduler.admit(demand(40, 25, 8)).unwrap();
        scheduler.prompt_is_ready(job);
        assert_eq!(started(&mut scheduler).len(), 2);
        assert_eq!(scheduler.cells_reserved(), 90);
        assert_eq!(scheduler.admit(demand(5, 6, 1)), None);
    }

    #[test]
    fn a_job_that_waits_for_cells_is_not_starved_by_refills() {
        let mut scheduler = scheduler(100, 8);
        let old = scheduler.admit(demand(0, 10, 1000)).unwrap();
        scheduler.prompt_is_ready(old);
        let mut running = started(&mut scheduler);
        assert_eq!(running.len(), 8);
        let mut finished = 0;
        let new = loop {
            if let Some(new) = scheduler.admit(demand(40, 10, 1)) {
                break new;
            }
            let (prompt, sequence) = running.remove(0);
            scheduler.finished(prompt, sequence);
            running.extend(started(&mut scheduler));
            finished += 1;
            assert!(finished < 20, "the newcomer must get in");
        };
        assert_ne!(new, old);
        assert!(!running.is_empty(), "the old job goes on meanwhile");
    }

    #[test]
    fn a_job_keeps_the_room_of_one_candidate_until_its_last_has_started() {
        let mut scheduler = scheduler(30, 1);
        let job = scheduler.admit(demand(10, 20, 2)).unwrap();
        scheduler.prompt_is_ready(job);
        let (prompt, sequence) = scheduler.start_next(false).unwrap();
        scheduler.finished(prompt, sequence);
        assert_eq!(scheduler.admit(demand(1, 1, 1)), None);
        let (prompt, sequence) = scheduler.start_next(false).unwrap();
        scheduler.finished(prompt, sequence);
        scheduler.retire(job);
        assert_eq!(scheduler.cells_reserved(), 0);
    }

    #[test]
    fn a_job_given_up_before_it_started_leaves_nothing_behind() {
        let mut scheduler = scheduler(100, 2);
        let job = scheduler.admit(demand(10, 20, 5)).unwrap();
        scheduler.retire(job);
        assert_eq!(scheduler.cells_reserved(), 0);
        assert!((0..4).all(|_| scheduler.admit(demand(1, 1, 1)).is_some()));
        assert_eq!(scheduler.admit(demand(1, 1, 1)), None, "prompts are limited too");
    }

    #[test]
    fn a_candidate_grows_while_cells_are_free_and_gives_all_of_them_back() {
        let mut scheduler = scheduler(100, 4);
        let job = scheduler.admit(Demand { limit_cells: 90, ..demand(10, 20, 2) }).unwrap();
        scheduler.prompt_is_ready(job);
        let running = started(&mut scheduler);
        let (old, young) = (running[0].1, running[1].1);
        assert!(scheduler.covers(old, 20) && !scheduler.covers(old, 21));
        assert!(scheduler.grow(old, 60));
        assert_eq!(scheduler.cells_reserved(), 90);
        assert!(!scheduler.grow(young, 31), "only ten cells are free");
        assert!(!scheduler.grow(old, 90));
        assert!(scheduler.set_aside(young) && !scheduler.set_aside(young));
        assert!(scheduler.grow(old, 90));
        scheduler.finished(job, old);
        assert!(scheduler.grow(young, 90));
        scheduler.finished(job, young);
        scheduler.retire(job);
        assert_eq!(scheduler.cells_reserved(), 0);
    }

    #[test]
    fn a_job_whose_room_was_taken_back_starts_as_soon_as_there_is_some() {
        let mut scheduler = scheduler(100, 1);
        let old = scheduler.admit(Demand { limit_cells: 80, ..demand(10, 20, 5) }).unwrap();
        let new = scheduler.admit(demand(10, 20, 5)).unwrap();
        scheduler.prompt_is_ready(old);
        scheduler.prompt_is_ready(new);
        let (_, sequence) = scheduler.start_next(false).unwrap();
        assert!(!scheduler.grow(sequence, 80));
        assert!(scheduler.take_back_spare() && !scheduler.take_back_spare());
        assert!(scheduler.grow(sequence, 80));
        assert_eq!(scheduler.admit(demand(5, 5, 1)), None);
        scheduler.finished(old, sequence);
        assert_eq!(scheduler.start_next(true), Some((old, sequence)), "the old job kept the room of one");
        scheduler.finished(old, sequence);
        assert_eq!(scheduler.start_next(false), Some((new, sequence)), "the new one has waited longer");
    }

    #[test]
    fn prompts_leave_the_room_that_the_longest_answer_may_need() {
        let mut scheduler = scheduler(100, 4);
        scheduler.admit(Demand { limit_cells: 80, ..demand(10, 10, 1) }).unwrap();
        assert_eq!(scheduler.admit(demand(11, 10, 1)), None);
        assert!(scheduler.admit(demand(10, 10, 1)).is_some());
    }

    #[test]
    fn while_others_wait_to_grow_only_promised_room_is_given_out() {
        let mut scheduler = scheduler(100, 4);
        let job = scheduler.admit(demand(10, 10, 3)).unwrap();
        scheduler.prompt_is_ready(job);
        assert!(scheduler.start_next(true).is_some());
        assert_eq!(scheduler.start_next(true), None);
        assert!(scheduler.start_next(false).is_some());
    }

    #[test]
    fn a_job_given_up_while_its_candidate_is_set_aside_leaves_nothing_behind() {
        let mut scheduler = scheduler(100, 4);
        let job = scheduler.admit(demand(10, 20, 3)).unwrap();
        scheduler.prompt_is_ready(job);
        let (prompt, sequence) = scheduler.start_next(false).unwrap();
        scheduler.set_aside(sequence);
        scheduler.finished(prompt, sequence);
        scheduler.retire(job);
        assert_eq!(scheduler.cells_reserved(), 0);
    }
}
