//! Who may start next: cells and places, counted without touching llama.cpp.
//!
//! Most answers are far shorter than they may be. So a candidate starts when the length that is expected of
//! it fits, and its part grows with it while cells are free. A job is admitted when its prompt and one
//! candidate fit; its other candidates start as room allows, always of the job that has the fewest running,
//! so that a job of one candidate is not slowed by a job of a thousand. Jobs are admitted in the order in
//! which they came: none is overtaken for ever.
//!
//! A job of the length that it may reach fits the cache alone, and no more is promised. When nobody can grow any more,
//! the youngest candidates are set aside until the oldest can, and then the prompts of the youngest jobs.

use super::cells::{Cells, Span};

/// A job that was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct JobId(pub(super) u64);

/// How many may be at work at the same time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// Candidates of whole answers.
    pub(super) answers: usize,
    /// Paths of searches, as many as searches may have altogether.
    pub(super) paths: usize,
    /// Both together.
    pub(super) all: usize,
}

/// What a job may come to need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    /// Cells of the prompt that nobody else had need of.
    pub(super) prompt_cells: u32,
    /// Cells with which one candidate starts.
    pub(super) candidate_cells: u32,
    pub(super) kind: Kind,
}

/// What the candidates of a job are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// So many whole answers, which start as soon as they can.
    Answers(usize),
    /// Paths of a search, so many at most, which start when they are told to.
    Paths(usize),
}

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    Cells,
    Places,
}

/// The ledger of who waits and who is at work.
#[derive(Debug)]
pub(super) struct Scheduler {
    cells: Cells,
    places: Places,
    /// In the order in which they last started a candidate.
    shares: Vec<Share>,
    /// The next job in line does not fit yet.
    next_waits_for_cells: bool,
}

#[derive(Debug)]
struct Share {
    job: JobId,
    demand: Demand,
    waiting: usize,
    live: usize,
    prompt_ready: bool,
    /// Cells that are reserved for one candidate although none runs.
    spare: Option<Span>,
}

/// A candidate that may start now.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) job: JobId,
    /// The cells that it starts with.
    pub(super) cells: u32,
    /// Those that were kept for it.
    pub(super) spare: Option<Span>,
}

impl Scheduler {
    pub(super) fn new(cells: Cells, places: Places) -> Self {
        Self { cells, places, shares: Vec::new(), next_waits_for_cells: false }
    }

    /// Whether a job can be admitted whose prompt takes so many cells that nobody has yet, and what it waits for otherwise.
    /// `evictable` are cells that would be free at once if they were needed.
    pub(super) fn fits(&mut self, demand: &Demand, evictable: u32) -> Result<(), Lack> {
        let needed = u64::from(demand.prompt_cells) + u64::from(demand.candidate_cells);
        let free = u64::from(self.cells.free()) + u64::from(evictable);
        self.next_waits_for_cells = needed > free;
        match demand.kind {
            _ if self.next_waits_for_cells => Err(Lack::Cells),
            Kind::Paths(count) if count > self.places.paths.saturating_sub(self.paths_promised()) => Err(Lack::Places),
            _ => Ok(()),
        }
    }

    /// Takes in a job that fits, with the cells that were reserved for its first candidate.
    pub(super) fn admit(&mut self, job: JobId, demand: Demand, spare: Span) {
        let waiting = match demand.kind {
            Kind::Answers(count) => count,
            Kind::Paths(_) => 0,
        };
        self.shares.push(Share { job, demand, waiting, live: 0, prompt_ready: false, spare: Some(spare) });
    }

    /// Nobody waits to be admitted any more, so that no room is kept for the next in line.
    pub(super) fn line_is_empty(&mut self) {
        self.next_waits_for_cells = false;
    }

    /// The next job in line waits for cells after all.
    pub(super) fn next_waits(&mut self) {
        self.next_waits_for_cells = true;
    }

    /// The job's prompt is evaluated: its candidates may start.
    pub(super) fn prompt_is_ready(&mut self, job: JobId) {
        self.share(job).prompt_ready = true;
    }

    /// A path of the job was told to start.
    pub(super) fn waits_to_start(&mut self, job: JobId) {
        self.share(job).waiting += 1;
    }

    /// A path that was told to start was given up before it did.
    pub(super) fn waits_no_more(&mut self, job: JobId) {
        self.share(job).waiting -= 1;
    }

    /// Chooses the job whose next candidate starts now. While candidates wait to grow, only those start for which room
    /// is already held. `evictable` are cells that would be free at once if they were needed.
    pub(super) fn start_next(&mut self, others_wait_to_grow: bool, evictable: u32) -> Option<Start> {
        let answers = self.live_answers();
        // What searches were promised is theirs whenever they want it.
        let most_answers = self.places.answers.min(self.places.all.saturating_sub(self.paths_promised()));
        let is_answer = |share: &Share| matches!(share.demand.kind, Kind::Answers(_));
        // `min_by_key` takes the first of equals, which is the one that has waited longest.
        let (position, _) = self
            .shares
            .iter()
            .enumerate()
            .filter(|(_, share)| share.waiting > 0 && share.prompt_ready)
            .filter(|(_, share)| !is_answer(share) || answers < most_answers)
            .filter(|(_, share)| share.spare.is_some() || (!others_wait_to_grow && self.may_start(share, evictable)))
            .min_by_key(|(_, share)| share.live)?;
        let mut share = self.shares.remove(position);
        share.waiting -= 1;
        share.live += 1;
        let start = Start { job: share.job, cells: share.demand.candidate_cells, spare: share.spare.take() };
        self.shares.push(share);
        Some(start)
    }

    /// A path has forked: one more is at work.
    pub(super) fn forked(&mut self, job: JobId) {
        self.share(job).live += 1;
    }

    /// Frees the room that a job holds for a candidate that does not run yet. False: none does. The job starts
    /// its candidate as soon as there is room for it again.
    pub(super) fn take_back_spare(&mut self) -> bool {
        self.shares.iter_mut().rev().find_map(|share| share.spare.take()).is_some()
    }

    /// A candidate has ended. `part` are the cells that it had, where nobody else keeps them.
    pub(super) fn finished(&mut self, job: JobId, part: Option<Span>) {
        let share = self.share(job);
        share.live -= 1;
        // The last room of a job with candidates to come is kept: it was admitted on the promise of it.
        let spare = share.demand.candidate_cells;
        if share.live == 0 && share.waiting > 0 && share.spare.is_none() {
            share.spare = part.filter(|part| part.cells() >= spare);
            if let Some(kept) = &share.spare {
                kept.shrink(spare);
            }
        }
    }

    /// The job is over: all its candidates have ended or will not start.
    pub(super) fn retire(&mut self, job: JobId) {
        let position = self.position(job);
        let share = self.shares.remove(position);
        debug_assert_eq!(share.live, 0, "a job is retired after its candidates");
    }

    /// Whether a candidate could start if there were room for it.
    pub(super) fn has_waiting(&self) -> bool {
        self.shares.iter().any(|share| share.waiting > 0 && share.prompt_ready)
    }

    /// The fewest cells for want of which a candidate does not start.
    pub(super) fn waits_for_cells(&self, evictable: u32) -> bool {
        let waiting =
            self.shares.iter().filter(|share| share.waiting > 0 && share.prompt_ready && share.spare.is_none());
        let least = waiting.map(|share| share.demand.candidate_cells).min();
        least.is_some_and(|least| least > self.cells.free().saturating_add(evictable))
    }

    /// The job's prompt is not in the cache any more: nobody starts until it is again.
    pub(super) fn prompt_is_out(&mut self, job: JobId) {
        let share = self.share(job);
        share.prompt_ready = false;
        share.spare = None;
    }

    fn live_answers(&self) -> usize {
        let answers = self.shares.iter().filter(|share| matches!(share.demand.kind, Kind::Answers(_)));
        answers.map(|share| share.live).sum()
    }

    fn paths_promised(&self) -> usize {
        let promised = self.shares.iter().map(|share| match share.demand.kind {
            Kind::Answers(_) => 0,
            Kind::Paths(count) => count.max(share.live),
        });
        promised.sum()
    }

    fn may_start(&self, share: &Share, evictable: u32) -> bool {
        let fits = share.demand.candidate_cells <= self.cells.free().saturating_add(evictable);
        // Paths are not many by themselves: their search waits until all of them have gone on.
        if !self.next_waits_for_cells || share.live == 0 || matches!(share.demand.kind, Kind::Paths(_)) {
            return fits;
        }
        // Someone waits for cells: a job refills only up to an equal part, so that the rest gathers.
        let part = u64::from(self.cells.total()) / (self.shares.len() as u64 + 1);
        let used =
            u64::from(share.demand.prompt_cells) + u64::from(share.demand.candidate_cells) * (share.live as u64 + 1);
        fits && used <= part
    }

    fn share(&mut self, job: JobId) -> &mut Share {
        let position = self.position(job);
        &mut self.shares[position]
    }

    fn position(&self, job: JobId) -> usize {
        self.shares.iter().position(|share| share.job == job).expect("only admitted jobs are asked about")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scheduler with the cells that it gives out, and with who is at work.
    struct House {
        cells: Cells,
        scheduler: Scheduler,
        prompts: Vec<Span>,
        running: Vec<(JobId, Span)>,
    }

    impl House {
        fn new(cells: u32, answers: usize) -> Self {
            let cells = Cells::new(cells);
            let scheduler = Scheduler::new(cells.clone(), Places { answers, paths: 4, all: 8 });
            Self { cells, scheduler, prompts: Vec::new(), running: Vec::new() }
        }

        fn admit(&mut self, demand: Demand) -> Option<JobId> {
            if self.scheduler.fits(&demand, 0).is_err() {
                return None;
            }
            let prompt = self.cells.take(demand.prompt_cells, None).unwrap();
            let spare = self.cells.take(demand.candidate_cells, Some(prompt.clone())).unwrap();
            self.prompts.push(prompt);
            let job = JobId(self.prompts.len() as u64);
            self.scheduler.admit(job, demand, spare);
            Some(job)
        }

        fn admit_ready(&mut self, demand: Demand) -> JobId {
            let job = self.admit(demand).unwrap();
            self.scheduler.prompt_is_ready(job);
            job
        }

        /// Starts one candidate.
        fn start(&mut self, others_wait_to_grow: bool) -> Option<JobId> {
            let Start { job, cells, spare } = self.scheduler.start_next(others_wait_to_grow, 0)?;
            let part = spare.unwrap_or_else(|| self.cells.take(cells, None).unwrap());
            self.running.push((job, part));
            Some(job)
        }

        fn start_all(&mut self) -> usize {
            std::iter::from_fn(|| self.start(false)).count()
        }

        fn end(&mut self, position: usize) {
            let (job, part) = self.running.remove(position);
            self.scheduler.finished(job, Some(part));
        }

        fn count(&self, job: JobId) -> usize {
            self.running.iter().filter(|(of, _)| *of == job).count()
        }
    }

    fn demand(prompt_cells: u32, candidate_cells: u32, candidates: usize) -> Demand {
        Demand { prompt_cells, candidate_cells, kind: Kind::Answers(candidates) }
    }

    #[test]
    fn a_large_budget_refills_the_places_that_become_free() {
        let mut house = House::new(1000, 3);
        let job = house.admit(demand(10, 10, 8)).unwrap();
        assert_eq!(house.start(false), None, "the prompt is not evaluated yet");
        house.scheduler.prompt_is_ready(job);
        let mut total = house.start_all();
        assert_eq!(total, 3);
        while !house.running.is_empty() {
            house.end(0);
            total += house.start_all();
        }
        assert_eq!(total, 8);
        house.scheduler.retire(job);
        house.prompts.clear();
        assert_eq!(house.cells.held(), 0);
    }

    #[test]
    fn a_newcomer_gets_the_next_free_places_until_the_parts_are_equal() {
        let mut house = House::new(1000, 4);
        let old = house.admit_ready(demand(1, 1, 100));
        assert_eq!(house.start_all(), 4);
        let new = house.admit_ready(demand(1, 1, 100));
        for expected in [(3, 1), (2, 2), (2, 2)] {
            let of_old = house.running.iter().position(|(job, _)| *job == old).unwrap();
            house.end(of_old);
            house.start_all();
            assert_eq!((house.count(old), house.count(new)), expected);
        }
    }

    #[test]
    fn no_candidate_starts_for_which_there_is_no_room() {
        let mut house = House::new(100, 8);
        house.admit_ready(demand(40, 25, 8));
        assert_eq!(house.start_all(), 2);
        assert_eq!(house.cells.held(), 90);
        assert_eq!(house.admit(demand(5, 6, 1)), None);
    }

    #[test]
    fn what_can_be_evicted_counts_as_free() {
        let mut house = House::new(100, 8);
        let kept = house.cells.take(50, None).unwrap();
        assert_eq!(house.scheduler.fits(&demand(40, 25, 2), 0), Err(Lack::Cells));
        assert_eq!(house.scheduler.fits(&demand(40, 25, 2), 50), Ok(()));
        drop(kept);
        house.admit_ready(demand(40, 25, 8));
        house.start_all();
        assert!(house.scheduler.start_next(false, 14).is_none());
        assert!(house.scheduler.start_next(false, 15).is_some());
    }

    #[test]
    fn a_job_that_waits_for_cells_is_not_starved_by_refills() {
        let mut house = House::new(100, 8);
        let old = house.admit_ready(demand(0, 10, 1000));
        assert_eq!(house.start_all(), 8);
        let mut finished = 0;
        let new = loop {
            if let Some(new) = house.admit(demand(40, 10, 1)) {
                break new;
            }
            house.end(0);
            house.start_all();
            finished += 1;
            assert!(finished < 20, "the newcomer must get in");
        };
        assert_ne!(new, old);
        assert!(!house.running.is_empty(), "the old job goes on meanwhile");
    }

    #[test]
    fn a_job_keeps_the_room_of_one_candidate_until_its_last_has_started() {
        let mut house = House::new(30, 1);
        let job = house.admit_ready(demand(10, 20, 2));
        house.start(false).unwrap();
        house.end(0);
        assert_eq!(house.admit(demand(1, 1, 1)), None);
        house.start(false).unwrap();
        house.end(0);
        house.scheduler.retire(job);
        house.prompts.clear();
        assert_eq!(house.cells.held(), 0);
    }

    #[test]
    fn a_job_given_up_before_it_started_leaves_nothing_behind() {
        let mut house = House::new(100, 2);
        let job = house.admit(demand(10, 20, 5)).unwrap();
        house.scheduler.retire(job);
        house.prompts.clear();
        assert_eq!(house.cells.held(), 0);
    }

    #[test]
    fn a_job_whose_room_was_taken_back_starts_as_soon_as_there_is_some() {
        let mut house = House::new(100, 1);
        let old = house.admit_ready(demand(10, 20, 5));
        let new = house.admit_ready(demand(10, 20, 5));
        assert_eq!(house.start(false), Some(old));
        assert!(!house.running[0].1.grow(80));
        assert!(house.scheduler.take_back_spare() && !house.scheduler.take_back_spare());
        assert!(house.running[0].1.grow(80));
        assert_eq!(house.admit(demand(5, 5, 1)), None);
        house.end(0);
        assert_eq!(house.start(true), Some(old), "the old job kept the room of one");
        house.end(0);
        assert_eq!(house.start(false), Some(new), "the new one has waited longer");
    }

    #[test]
    fn paths_of_one_search_all_start_although_somebody_waits_for_cells() {
        let mut house = House::new(100, 8);
        let search = house.admit_ready(Demand { kind: Kind::Paths(4), ..demand(10, 20, 0) });
        for _ in 0..4 {
            house.scheduler.waits_to_start(search);
        }
        house.start(false).unwrap();
        assert_eq!(house.admit(demand(80, 10, 1)), None);
        assert_eq!(house.start_all(), 3);
    }

    #[test]
    fn while_others_wait_to_grow_only_promised_room_is_given_out() {
        let mut house = House::new(100, 4);
        house.admit_ready(demand(10, 10, 3));
        assert!(house.start(true).is_some());
        assert_eq!(house.start(true), None);
        assert!(house.start(false).is_some());
    }

    #[test]
    fn paths_start_when_they_are_told_to_and_searches_wait_for_places_of_theirs() {
        let mut house = House::new(1000, 1);
        let search = Demand { kind: Kind::Paths(3), ..demand(10, 10, 0) };
        let job = house.admit_ready(search);
        assert_eq!(house.start(false), None);
        house.scheduler.waits_to_start(job);
        house.scheduler.waits_to_start(job);
        house.scheduler.waits_no_more(job);
        assert_eq!(house.start_all(), 1);
        assert!(house.admit(Demand { kind: Kind::Paths(2), ..search }).is_none(), "one place of four is left");
        let answers = house.admit_ready(demand(10, 10, 2));
        assert_eq!(house.start_all(), 1, "paths take no places of answers");
        assert_eq!(house.count(answers), 1);
    }
}
