//! One streamed candidate, over all its attempts: what is heard of it is held back until the model has said something,
//! so that an attempt which fails before can be made again unseen.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::unfold;

use super::attempts::{Attempt, Attempts, Turn};
use super::members::{Member, Pool};
use super::retry::AttemptFailure;
use crate::completion::{Completion, Delta, StepEvent};

/// What is heard of an attempt that the upstream has begun to answer.
pub(super) enum Heard {
    Delta {
        delta: Delta,
        /// Whether the model said something in it: a role alone, or an empty string, is nothing yet.
        has_content: bool,
    },
    /// Nothing to pass on.
    Silent,
    /// The whole answer, after which nothing is asked for.
    Finished(Completion),
}

/// An attempt that the upstream has begun to answer. Dropping it closes its connection.
pub(super) trait Source: Send {
    /// What comes next.
    fn next(&mut self) -> impl Future<Output = Result<Heard, AttemptFailure>> + Send;
}

/// The events of one candidate whose attempts `open` makes. Dropping the stream closes its connection.
pub(super) fn events<M, S, F>(
    pool: Arc<Pool<M>>,
    attempts: Attempts<M>,
    open: impl Fn(Arc<M>) -> F + Send + Sync + 'static,
    told: impl FnMut(Attempt) + Send + 'static,
) -> impl Stream<Item = StepEvent> + Send + 'static
where
    M: Member + Send + Sync + 'static,
    S: Source + 'static,
    F: Future<Output = Result<S, AttemptFailure>> + Send,
{
    let call = StreamedCall { pool, open, told, attempts, state: State::Closed };
    unfold(call, |mut call| async move { call.next().await.map(|event| (event, call)) })
}

struct StreamedCall<M, S, O, T> {
    pool: Arc<Pool<M>>,
    open: O,
    told: T,
    attempts: Attempts<M>,
    state: State<M, S>,
}

enum State<M, S> {
    /// Between two attempts, or before the first.
    Closed,
    Open(Box<OpenStream<S>>, Turn<M>),
    /// The last event is out.
    Ended,
}

impl<M, S, F, O, T> StreamedCall<M, S, O, T>
where
    M: Member,
    S: Source,
    F: Future<Output = Result<S, AttemptFailure>>,
    O: Fn(Arc<M>) -> F,
    T: FnMut(Attempt),
{
    async fn next(&mut self) -> Option<StepEvent> {
        loop {
            let ended = match &mut self.state {
                State::Ended => return None,
                State::Closed => {
                    let open = |server, _| (self.open)(server);
                    match self.attempts.make(&self.pool, &mut self.told, open).await {
                        Ok((source, turn)) => {
                            self.state = State::Open(Box::new(OpenStream::new(source)), turn);
                            continue;
                        }
                        Err(failure) => {
                            self.state = State::Ended;
                            return Some(StepEvent::Failed(failure));
                        }
                    }
                }
                State::Open(open, turn) => match open.next().await {
                    Ok(event) => {
                        turn.heard(&self.pool.metrics);
                        match event {
                            StepEvent::Finished(completion) => Ok(completion),
                            event => return Some(event),
                        }
                    }
                    Err(attempt) if open.is_committed => Err(attempt.passed_on()),
                    Err(attempt) => Err(attempt),
                },
            };
            // The connection goes before the place.
            let State::Open(open, turn) = std::mem::replace(&mut self.state, State::Ended) else { return None };
            drop(open);
            match ended {
                Ok(completion) => {
                    self.attempts.answered(turn);
                    (self.told)(Attempt::Answered(completion.usage));
                    return Some(StepEvent::Finished(completion));
                }
                Err(attempt) => match self.attempts.failed(&self.pool, turn, attempt, &mut self.told) {
                    Ok(()) => self.state = State::Closed,
                    Err(failure) => return Some(StepEvent::Failed(failure)),
                },
            }
        }
    }
}

/// One attempt, with what is held back of it.
struct OpenStream<S> {
    source: S,
    /// Deltas not passed on yet. Those before the first content wait here, so that a retry can forget them.
    waiting: VecDeque<Delta>,
    /// The model has said something: this attempt is the one, and its failure is final.
    is_committed: bool,
    /// The whole answer, once the stream has ended; the deltas that still wait come before it.
    completion: Option<Completion>,
}

impl<S: Source> OpenStream<S> {
    fn new(source: S) -> Self {
        Self { source, waiting: VecDeque::new(), is_committed: false, completion: None }
    }

    /// The next delta, or the finished completion.
    async fn next(&mut self) -> Result<StepEvent, AttemptFailure> {
        loop {
            if (self.is_committed || self.completion.is_some())
                && let Some(delta) = self.waiting.pop_front()
            {
                return Ok(StepEvent::Delta(delta));
            }
            if let Some(completion) = self.completion.take() {
                return Ok(StepEvent::Finished(completion));
            }
            match self.source.next().await? {
                Heard::Delta { delta, has_content } => {
                    self.waiting.push_back(delta);
                    self.is_committed |= has_content;
                }
                Heard::Silent => {}
                Heard::Finished(completion) => self.completion = Some(completion),
            }
        }
    }
}
