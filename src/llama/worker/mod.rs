//! What the engine's thread does, turn by turn.
//!
//! Each turn evaluates one batch: the last token of every running candidate first, then as much of the prompts that are
//! still to be read as fits the time that a turn may take, evenly among them. A prompt is evaluated once; its candidates
//! share its cache cells and draw their first token from its last row of logits, however much later they start. A path
//! of a search rests after each step with its last token evaluated, so that whoever forks it repeats nothing.
//!
//! A candidate that cannot grow because the cache is full waits. When all of them wait, the youngest is set aside: its
//! cells are freed, and when there is room again, its tokens are evaluated anew and it goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use llama_cpp_2::token::LlamaToken;
use tokio::sync::oneshot;

use super::candidate::{Candidate, Next, PromptUsage};
use super::cells::{Cells, Span};
use super::context::{CheckedContext, ContextError, MAX_SEQUENCE_IDS, Saved, SequenceId};
use super::engine::{QueuedJob, Shared, ToDo, Work};
use super::pace::{Pace, divide};
use super::paths::{PathId, Stepped};
use super::prefixes::Prefixes;
use super::scheduler::{JobId, Places, Scheduler};
use super::shelf::Shelf;
use super::vocabulary::Vocabulary;
use crate::failure::{Failure, FailureKind};

mod admission;
mod ending;
mod scoring;
mod searching;
mod shelving;

/// Prompts that are in the cache at the same time, whether somebody holds them or not.
const MOST_PROMPTS: usize = 64;

/// Paths that searches may have at the same time, and so the most that one may have. The rest of the places is left to
/// answers.
pub(super) const MOST_PATHS: usize = 128;

/// Rows of logits that one turn works out for prompts that are scored: each takes as many numbers as the vocabulary has
/// tokens.
const MOST_SCORED_ROWS: usize = 64;

/// Cells by which a candidate that outgrows its part gets more.
const GROWTH_CELLS: u32 = 64;

/// What the thread may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Cache cells, one a token and layer stack.
    pub(super) cells: u32,
    /// Cells that prompts may keep which nobody holds.
    pub(super) kept_cells: u32,
    /// Memory for prompts and answers that nobody holds and that are not in the cache.
    pub(super) shelf_bytes: usize,
    /// Answers generated at the same time.
    pub(super) answers: usize,
    pub(super) batch_tokens: u32,
}

pub(super) struct Worker<'a> {
    shared: &'a Shared,
    context: CheckedContext<'a>,
    vocabulary: &'a Vocabulary,
    limits: Limits,
    cells: Cells,
    free_sequences: Vec<SequenceId>,
    prefixes: Prefixes,
    shelf: Shelf<Saved>,
    scheduler: Scheduler,
    pace: Pace,
    /// In the order in which they were admitted.
    jobs: Vec<ActiveJob>,
    /// In the order in which they started.
    running: Vec<Running>,
    /// Whether a running candidate waits for cells: nobody else gets any then.
    is_crowded: bool,
    /// Whether the last turn changed anything; otherwise only something new can.
    has_progressed: bool,
    /// Whether owners of paths have told it something since.
    has_obeyed: bool,
    /// Whether somebody was admitted for whom texts may have to make way.
    somebody_came: bool,
    /// What the next in line wants from the shelf, and for whom that was last.
    wanted: Option<shelving::Wanted>,
    wanted_for: Option<JobId>,
    scratch: Vec<(u32, f64)>,
}

/// A job whose prompt is in the cache, or is being read.
struct ActiveJob {
    job: QueuedJob,
    prompt: SequenceId,
    /// Prompt tokens that were not evaluated for this job.
    shared: usize,
    is_ready: bool,
    running: usize,
    /// Whether its prompt has been read, though it may not be in the cache any more.
    was_read: bool,
    /// Its prompt was given up to make room, and is read again when there is some.
    is_out: bool,
    /// Whether a candidate has accounted for the prompt.
    is_prompt_told: bool,
    /// Paths that have not begun.
    unstarted: Vec<UnstartedPath>,
    /// Forks that could not be, and why.
    lost: Vec<(PathId, Failure)>,
    /// Whether there is one candidate and no more.
    has_one_answer: bool,
}

struct UnstartedPath {
    id: PathId,
    seed: u64,
    told: Option<StepReply>,
}

/// What a candidate does next, or why it cannot go on.
type Drawn = Result<Next, Failure>;

type StepReply = oneshot::Sender<Result<Stepped, Failure>>;

struct Running {
    job: JobId,
    prompt: SequenceId,
    sequence: SequenceId,
    /// The cells of its tokens from `base` on.
    span: Span,
    /// Tokens whose cells it shares with those that it was forked from or with.
    base: u32,
    /// All that were drawn.
    tokens: Vec<LlamaToken>,
    /// How many of them are in the cache.
    evaluated: usize,
    candidate: Candidate,
    /// Where it is told, if it is a path of a search.
    path: Option<PathId>,
    stage: Stage,
    told: Option<StepReply>,
}

/// What a candidate waits for.
enum Stage {
    /// The logits after its last token, to draw the next one.
    Drawing,
    /// The same, to come to rest with them: the step is over.
    Closing(Box<Stepped>),
    /// To be told to go on; the logits after its last token are these.
    Resting(Arc<[f32]>),
}

impl Running {
    fn is_resting(&self) -> bool {
        matches!(self.stage, Stage::Resting(_))
    }

    /// Draws its next token from these logits.
    fn advance(
        &mut self,
        row: &[f32],
        jobs: &[ActiveJob],
        vocabulary: &Vocabulary,
        scratch: &mut Vec<(u32, f64)>,
    ) -> Drawn {
        let QueuedJob { tokens_per_candidate, request, .. } = &active(jobs, self.job).job;
        self.candidate.advance(row, *tokens_per_candidate, request, vocabulary, scratch)
    }

    /// Tells whoever waits for its step.
    fn tell(&mut self, end: Result<Stepped, Failure>) {
        if let Some(told) = self.told.take() {
            // Whoever has given up waiting drops the path next.
            let _ = told.send(end);
        }
    }

    /// Tokens that are to be evaluated before it can draw.
    fn behind(&self) -> usize {
        self.tokens.len() - self.evaluated
    }
}

/// Where a piece of a batch belongs.
enum Piece {
    Prompt {
        sequence: SequenceId,
        count: usize,
        row: Option<i32>,
    },
    /// A prompt of which all logits are wanted; the first of its rows.
    Scored {
        sequence: SequenceId,
        count: usize,
        first_row: i32,
    },
    Candidate {
        position: usize,
        count: usize,
        row: Option<i32>,
    },
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        context: CheckedContext<'a>,
        vocabulary: &'a Vocabulary,
        limits: Limits,
    ) -> Self {
        let cells = Cells::new(limits.cells);
        Self {
            shared,
            vocabulary,
            limits,
            free_sequences: sequences(&context),
            context,
            prefixes: Prefixes::new(MOST_PROMPTS, limits.kept_cells),
            shelf: Shelf::new(limits.shelf_bytes),
            scheduler: Scheduler::new(cells.clone(), places(limits)),
            cells,
            pace: Pace::new(limits.batch_tokens),
            jobs: Vec::new(),
            running: Vec::new(),
            is_crowded: false,
            has_progressed: false,
            has_obeyed: false,
            somebody_came: false,
            wanted: None,
            wanted_for: None,
            scratch: Vec::new(),
        }
    }

    /// Waits until there is something to do, and takes in what is new. False: the engine is to stop.
    pub(super) fn attend(&mut self) -> bool {
        let mut commands = Vec::new();
        let shared = self.shared;
        let mut has_gathered = !self.jobs.is_empty();
        let goes_on = shared.attend(|line| {
            if !has_gathered && let Some(first) = line.jobs.front() {
                has_gathered = true;
                let unread = self.prefixes.cells_for(&first.tokens) as usize;
                return ToDo::Gather(self.pace.gathering(unread));
            }
            commands.extend(line.commands.drain(..));
            let admitted = self.admit(&mut line.jobs);
            let is_abandoned = || self.jobs.iter().any(|active| active.job.watch.is_abandoned());
            let has_news = admitted || self.wanted.is_some() || !commands.is_empty();
            match has_news || self.has_progressed || is_abandoned() {
                true => ToDo::Something,
                false if self.jobs.is_empty() => ToDo::Nothing,
                false => ToDo::Watch,
            }
        });
        self.has_obeyed = !commands.is_empty();
        for command in commands {
            self.obey(command);
        }
        goes_on
    }

    /// Does one turn's work.
    pub(super) fn work(&mut self) {
        let ended = self.end_abandoned();
        // Whom a text shares with is held until it does.
        self.share_prefixes();
        let moved = self.move_texts();
        let started = self.start_candidates();
        match self.turn() {
            Ok(evaluated) => {
                self.has_progressed = evaluated || started || ended || moved || self.has_obeyed || self.make_place();
            }
            Err(error) => {
                self.fail_everything(&error);
                self.has_progressed = true;
            }
        }
        self.publish();
    }

    /// Evaluates one batch and lets every candidate in it draw its next token. False: there was nothing to evaluate.
    fn turn(&mut self) -> Result<bool, ContextError> {
        self.context.clear_batch();
        let going = self.make_room()?;
        let (pieces, drawing) = self.fill_batch(&going)?;
        if pieces.is_empty() {
            return Ok(false);
        }
        let read: usize = pieces.iter().map(Piece::count).sum::<usize>() - drawing;
        if read > 0 {
            self.shared.needless.watch(self.jobs.iter().map(|active| active.job.watch.clone()).collect());
        }
        let began = Instant::now();
        let evaluated = self.context.evaluate();
        let took = began.elapsed();
        self.shared.needless.watch(Vec::new());
        match evaluated {
            Ok(()) => {}
            // Whoever has given it all up is dealt with in the next turn.
            Err(ContextError::Interrupted) => return Ok(true),
            Err(ContextError::NoRoom) if self.evict_one() => return Ok(true),
            Err(error) => return Err(error),
        }
        let gauges = &self.shared.gauges;
        gauges.batch_tokens.store((read + drawing) as u64, Ordering::Relaxed);
        gauges.busy_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if drawing > 0 {
            gauges.note_speed(drawing, took);
        }
        self.take_rows(pieces)?;
        // With the drawing, which streams wait for too.
        self.pace.took(drawing > 0, read, began.elapsed());
        tracing::trace!(read, drawing, evaluated_us = took.as_micros(), all_us = began.elapsed().as_micros(), "a turn");
        Ok(true)
    }

    /// Puts the batch together. How many of its tokens are those by which candidates draw their next one.
    fn fill_batch(&mut self, going: &[bool]) -> Result<(Vec<Piece>, usize), ContextError> {
        let mut pieces = Vec::new();
        let mut readers = Vec::new();
        for (position, running) in self.running.iter_mut().enumerate().filter(|(position, _)| going[*position]) {
            match running.behind() {
                // After it was set aside.
                2.. => readers.push(Reader::Candidate(position)),
                _ => {
                    let token = running.tokens[running.evaluated];
                    let row = Some(self.context.push(running.sequence, token, true)?);
                    pieces.push(Piece::Candidate { position, count: 1, row });
                }
            }
        }
        let drawing = pieces.len();
        readers.extend(self.prefixes.unread().into_iter().map(|(sequence, count)| Reader::Prompt(sequence, count)));
        let needs: Vec<usize> = readers.iter().map(|reader| reader.needs(&self.running)).collect();
        let room = self.pace.allowance(drawing > 0).min(self.context.batch_room());
        let mut scored_rows = MOST_SCORED_ROWS;
        for (reader, count) in readers.into_iter().zip(divide(room, &needs)).filter(|(_, count)| *count > 0) {
            pieces.push(match reader {
                Reader::Prompt(sequence, _) if self.prefixes.wants_rows(sequence) => {
                    let mut first_row = None;
                    let count = count.min(scored_rows);
                    scored_rows -= count;
                    for ahead in 0..count {
                        let (token, wants_row) =
                            self.prefixes.next_token(sequence, ahead).expect("it needs so many tokens");
                        let row = self.context.push(sequence, token, wants_row)?;
                        first_row.get_or_insert(row);
                    }
                    let Some(first_row) = first_row else { continue };
                    Piece::Scored { sequence, count, first_row }
                }
                Reader::Prompt(sequence, _) => {
                    let mut row = None;
                    for ahead in 0..count {
                        let (token, is_last) =
                            self.prefixes.next_token(sequence, ahead).expect("it needs so many tokens");
                        let pushed = self.context.push(sequence, token, is_last)?;
                        row = is_last.then_some(pushed);
                    }
                    Piece::Prompt { sequence, count, row }
                }
                Reader::Candidate(position) => {
                    let running = &self.running[position];
                    let mut row = None;
                    for (token, left) in running.tokens[running.evaluated..].iter().take(count).zip((0..count).rev()) {
                        let is_last = left == 0 && count == running.behind();
                        let pushed = self.context.push(running.sequence, *token, is_last)?;
                        row = is_last.then_some(pushed);
                    }
                    Piece::Candidate { position, count, row }
                }
            });
        }
        Ok((pieces, drawing))
    }

    /// Hands out what was evaluated.
    fn take_rows(&mut self, pieces: Vec<Piece>) -> Result<(), ContextError> {
        // Somebody may be reading along.
        let drawn = self.draw_all(&pieces)?;
        let gauges = &self.shared.gauges;
        for piece in pieces {
            match piece {
                Piece::Prompt { sequence, count, row } => {
                    gauges.prompt_tokens.fetch_add(count as u64, Ordering::Relaxed);
                    let row = row.map(|row| self.context.logits(row).map(Arc::from)).transpose()?;
                    let is_read = row.is_some();
                    self.prefixes.evaluated(sequence, count, row);
                    if is_read {
                        self.tell_read(sequence);
                    }
                }
                Piece::Scored { sequence, count, first_row } => {
                    gauges.prompt_tokens.fetch_add(count as u64, Ordering::Relaxed);
                    self.take_scores(sequence, count, first_row)?;
                }
                Piece::Candidate { .. } => {}
            }
        }
        // From the back, because ending one moves those behind it.
        for (position, next) in drawn.into_iter().rev() {
            self.go_on(position, next);
        }
        Ok(())
    }

    /// Lets candidates draw their next tokens, or rest where their step is over. Who has drawn, in the order of their
    /// positions.
    fn draw_all(&mut self, pieces: &[Piece]) -> Result<Vec<(usize, Drawn)>, ContextError> {
        let mut rows = Vec::new();
        for piece in pieces {
            let Piece::Candidate { position, count, row } = *piece else { continue };
            self.running[position].evaluated += count;
            rows.extend(row.map(|row| (position, row)));
        }
        // Those that read several tokens come last in the batch.
        rows.sort_unstable();
        let mut drawn = Vec::with_capacity(rows.len());
        for (position, row) in rows {
            let row = self.context.logits(row)?;
            let running = &mut self.running[position];
            match std::mem::replace(&mut running.stage, Stage::Drawing) {
                Stage::Drawing => {
                    let next = running.advance(row, &self.jobs, self.vocabulary, &mut self.scratch);
                    drawn.push((position, next));
                }
                Stage::Closing(step) => {
                    running.stage = Stage::Resting(row.into());
                    // What it was promised beyond its tokens is somebody else's until it goes on.
                    running.span.shrink(u32::try_from(running.tokens.len()).unwrap_or(u32::MAX) - running.base);
                    let prompt = active_mut(&mut self.jobs, running.job).tell_prompt(&self.prefixes);
                    running.tell(Ok(with_prompt(*step, prompt)));
                }
                resting @ Stage::Resting(_) => running.stage = resting,
            }
        }
        self.shared.gauges.generated_tokens.fetch_add(drawn.len() as u64, Ordering::Relaxed);
        Ok(drawn)
    }

    /// A prompt has been read: whoever begins with it may start.
    fn tell_read(&mut self, prompt: SequenceId) {
        let readers = self.jobs.iter().filter(|active| active.prompt == prompt && !active.is_out);
        let readers: Vec<JobId> = readers.map(|active| active.job.id).collect();
        for job in readers {
            self.job_is_ready(job);
        }
    }

    /// A job's prompt is in the cache: its candidates may start, and those that have begun before it was given up have it
    /// again.
    fn job_is_ready(&mut self, job: JobId) {
        let active = active_mut(&mut self.jobs, job);
        if active.is_ready {
            return;
        }
        let (prompt, length) = (active.prompt, count(active.job.tokens.len()));
        active.is_read(&mut self.scheduler);
        for running in self.running.iter_mut().filter(|running| running.job == job) {
            running.prompt = prompt;
            running.span = self.prefixes.span(prompt).branch();
            self.context.share(prompt, running.sequence, length).expect("the prompt is read, and the path has nothing");
        }
    }

    /// Lets a candidate go on with what it has drawn, or ends it.
    fn go_on(&mut self, position: usize, next: Drawn) {
        let running = &mut self.running[position];
        match next {
            Ok(Next::Token(token)) => {
                running.tokens.push(LlamaToken(token.cast_signed()));
                running.stage = Stage::Drawing;
            }
            Ok(Next::StepEnd(token)) => {
                running.tokens.push(LlamaToken(token.cast_signed()));
                running.stage = Stage::Closing(Box::new(running.candidate.take_step()));
            }
            Ok(Next::Ended(reason)) => self.end_candidate(position, Ok(reason)),
            Err(failure) => self.end_candidate(position, Err(failure)),
        }
    }

    /// Tells of each running candidate whether its next tokens have room. When there is nothing else to do, at
    /// least one has, if one waits at all.
    fn make_room(&mut self) -> Result<Vec<bool>, ContextError> {
        loop {
            let mut going = Vec::with_capacity(self.running.len());
            let mut oldest_waiting = None;
            for position in 0..self.running.len() {
                let running = &self.running[position];
                if running.is_resting() || !active(&self.jobs, running.job).is_ready {
                    going.push(false);
                    continue;
                }
                let needed = count(running.tokens.len()) - running.base;
                let limit = active(&self.jobs, running.job).job.tokens_per_candidate.saturating_sub(running.base);
                let span = running.span.clone();
                let has_room = span.cells() >= needed
                    || self.grow(&span, needed.saturating_add(GROWTH_CELLS).min(limit.max(needed)))
                    || self.grow(&span, needed);
                if !has_room && oldest_waiting.is_none() {
                    oldest_waiting = Some(position);
                }
                going.push(has_room);
            }
            self.is_crowded = oldest_waiting.is_some();
            let Some(oldest) = oldest_waiting else { return Ok(going) };
            if going.contains(&true) || !self.prefixes.unread().is_empty() {
                return Ok(going);
            }
            let but = self.running[oldest].job;
            let helped = self.scheduler.take_back_spare()
                || self.take_back_reserves()
                || self.set_one_aside(Some(oldest))?
                || self.put_one_out(but)?;
            if !helped {
                return Err(ContextError::NoRoom);
            }
        }
    }

    /// Lets a span grow, at the cost of prompts that nobody holds.
    fn grow(&mut self, span: &Span, cells: u32) -> bool {
        loop {
            if span.grow(cells) {
                return true;
            }
            if !self.evict_one() {
                return false;
            }
        }
    }

    /// Frees the cells of the youngest candidate that has some, but not of this one. False: there is none.
    ///
    /// The oldest that waits never makes room: so it comes to its end, and then the next one is the oldest.
    fn set_one_aside(&mut self, but: Option<usize>) -> Result<bool, ContextError> {
        let has_cells = |running: &Running| running.span.cells() > 0 || running.base > 0;
        let youngest = (0..self.running.len()).rev().filter(|position| Some(*position) != but);
        let Some(position) = youngest.into_iter().find(|position| has_cells(&self.running[*position])) else {
            return Ok(false);
        };
        let running = &mut self.running[position];
        let prompt_length = active(&self.jobs, running.job).job.tokens.len();
        running.span = self.prefixes.span(running.prompt).branch();
        running.base = 0;
        running.evaluated = 0;
        self.context.truncate(running.sequence, count(prompt_length))?;
        Ok(true)
    }

    /// Makes room for a candidate that is to start while nobody else goes on. False: nobody waits for room, or nothing helps.
    fn make_place(&mut self) -> bool {
        let is_idle = self.running.iter().all(Running::is_resting) && self.prefixes.unread().is_empty();
        let waits = self.scheduler.waits_for_cells(self.prefixes.kept_cells());
        is_idle
            && (waits || self.jobs.iter().any(|active| active.is_out))
            && (self.scheduler.take_back_spare()
                || self.take_back_reserves()
                || self.set_one_aside(None).unwrap_or(false))
    }

    /// Takes back cells that paths were promised and do not fill. False: there are none.
    fn take_back_reserves(&mut self) -> bool {
        let before = self.cells.held();
        for running in self.running.iter().filter(|running| running.is_resting()) {
            running.span.shrink(count(running.tokens.len()) - running.base);
        }
        self.cells.held() < before
    }

    /// Gives up the prompt of the youngest job but this one, whose candidates are all set aside by now. It is read again when
    /// there is room. False: there is none.
    fn put_one_out(&mut self, but: JobId) -> Result<bool, ContextError> {
        let may_go = |active: &&mut ActiveJob| active.is_ready && active.running > 0 && active.job.id != but;
        let Some(active) = self.jobs.iter_mut().rev().find(may_go) else { return Ok(false) };
        active.is_ready = false;
        active.is_out = true;
        let (job, prompt) = (active.job.id, active.prompt);
        self.scheduler.prompt_is_out(job);
        for running in self.running.iter_mut().filter(|running| running.job == job) {
            running.span = self.cells.take(0, None).expect("no cells are always free");
            running.base = 0;
            running.evaluated = 0;
            self.context.remove(running.sequence)?;
        }
        self.give_up_prompt(prompt);
        Ok(true)
    }

    fn publish(&self) {
        let gauges = &self.shared.gauges;
        let kept = self.prefixes.kept_cells();
        gauges.live_sequences.store(self.running.len() as u64, Ordering::Relaxed);
        gauges.cells_reserved.store((self.cells.held() - kept).into(), Ordering::Relaxed);
        gauges.cells_kept.store(kept.into(), Ordering::Relaxed);
        gauges.shelved_bytes.store(self.shelf.bytes() as u64, Ordering::Relaxed);
        gauges.evaluated_tokens.store(self.context.evaluated_tokens(), Ordering::Relaxed);
    }
}

impl Piece {
    fn count(&self) -> usize {
        match self {
            Self::Prompt { count, .. } | Self::Scored { count, .. } | Self::Candidate { count, .. } => *count,
        }
    }
}

/// Who reads several tokens in a turn.
enum Reader {
    Prompt(SequenceId, usize),
    Candidate(usize),
}

impl Reader {
    fn needs(&self, running: &[Running]) -> usize {
        match self {
            Self::Prompt(_, count) => *count,
            Self::Candidate(position) => running[*position].behind(),
        }
    }
}

impl ActiveJob {
    /// Its prompt has been read: its candidates may start.
    fn is_read(&mut self, scheduler: &mut Scheduler) {
        self.was_read = true;
        if !std::mem::replace(&mut self.is_ready, true) {
            scheduler.prompt_is_ready(self.job.id);
            if let Work::Search { opened, .. } = &mut self.job.work
                && let Some(opened) = opened.take()
            {
                // Whoever is gone is noticed by the watch.
                let _ = opened.send(());
            }
        }
    }

    /// What a candidate accounts for of the prompt: all of it, if it is the first to.
    fn tell_prompt(&mut self, prefixes: &Prefixes) -> PromptUsage {
        if std::mem::replace(&mut self.is_prompt_told, true) {
            return PromptUsage::default();
        }
        let read = if self.was_read { self.job.tokens.len() } else { prefixes.evaluated_of(self.prompt) };
        PromptUsage { tokens: read as u64, cached: self.shared.min(read) as u64 }
    }
}

/// A step that also accounts for this of its prompt.
fn with_prompt(mut stepped: Stepped, prompt: PromptUsage) -> Stepped {
    stepped.usage.prompt_tokens = prompt.tokens;
    stepped.usage.cached_tokens = prompt.cached;
    stepped
}

fn sequences(context: &CheckedContext<'_>) -> Vec<SequenceId> {
    (0..context.shape().sequences).rev().map(SequenceId).collect()
}

fn places(limits: Limits) -> Places {
    Places { answers: limits.answers, paths: MOST_PATHS, all: MAX_SEQUENCE_IDS as usize - MOST_PROMPTS }
}

/// The job of this number, which is active.
fn active(jobs: &[ActiveJob], job: JobId) -> &ActiveJob {
    jobs.iter().find(|active| active.job.id == job).expect("what runs belongs to an active job")
}

fn active_mut(jobs: &mut [ActiveJob], job: JobId) -> &mut ActiveJob {
    jobs.iter_mut().find(|active| active.job.id == job).expect("what runs belongs to an active job")
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

fn internal(error: &dyn std::error::Error) -> Failure {
    Failure::new(FailureKind::Internal, format!("the in-process engine failed: {error}"))
}
