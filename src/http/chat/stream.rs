//! The streamed response: server-sent events in OpenAI's chunk shape.
//!
//! What is final by construction (a single call) is passed on as it is generated. A vote is only known at
//! its end: until then comments keep the connection alive and, where they were asked for, chunks tell of its
//! progress; then the answer follows as chunks.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::algorithms::{Observer, Outcome};
use crate::completion::Delta;
use crate::http::AppState;
use crate::http::backlog::{self, backlog};
use crate::http::error::ApiError;
use crate::http::event_stream::{self, Telling};
use crate::http::request_log::RequestRecord;

use super::chunks::{Chunks, Progress};
use super::job::Job;
use super::running::{Interruption, Ticket};

type Item = event_stream::Item<Delta, Box<Outcome>>;

/// Runs the job and answers with a stream of its chunks.
///
/// # Cancel safety
///
/// The body owns the run: when the client disconnects, every call in flight ends.
pub async fn respond(job: Arc<Job>, ticket: Ticket, state: &AppState) -> Result<HttpResponse, ApiError> {
    let (writer, items) = backlog(ticket.order().clone(), state.unread_timeout);
    let (ended, progress) = watch::channel((0, job.planned()));
    let run = AbortOnDropHandle::new(state.home(job.may_stay()).spawn({
        let (job, order) = (Arc::clone(&job), ticket.order().clone());
        async move {
            let mut feed = Feed { writer, ended };
            let end = match order.or(job.run(&mut feed)).await {
                Ok(Ok(outcome)) => Item::Answer(Box::new(outcome)),
                Ok(Err(error)) => Item::Failed(error.into()),
                // The response hears of it from its ticket.
                Err(_) => return,
            };
            feed.writer.end(end).await;
        }
    }));
    let telling = Told { job, progress, has_begun: false };
    event_stream::respond(telling, items, ticket, run, state.keep_alive).await
}

/// The run's end of the stream.
struct Feed {
    writer: backlog::Writer<Item>,
    /// Candidates that have ended, and that are planned.
    ended: watch::Sender<(usize, usize)>,
}

impl Observer for Feed {
    async fn delta(&mut self, delta: Delta) {
        let bytes = delta.size_bytes();
        self.writer.put(Item::Piece(delta), bytes).await;
    }

    fn progress(&mut self, completed: usize, planned: usize) {
        self.ended.send_replace((completed, planned));
    }
}

/// A run as its client is told of it.
struct Told {
    job: Arc<Job>,
    progress: watch::Receiver<(usize, usize)>,
    /// Whether a delta went out.
    has_begun: bool,
}

impl Telling for Told {
    type Piece = Delta;
    type Answer = Box<Outcome>;

    fn headers(&self, answer: Option<&Box<Outcome>>) -> Vec<(HeaderName, HeaderValue)> {
        match answer {
            Some(outcome) => self.job.finish(outcome).headers(),
            None => self.job.early_headers(),
        }
    }

    fn piece(&mut self, delta: Delta, _: &mut Ticket) -> Bytes {
        let mut chunks = self.chunks();
        chunks.live(&delta, !self.has_begun);
        let bytes = chunks.into_bytes();
        self.has_begun = true;
        bytes
    }

    fn answer(&mut self, outcome: Box<Outcome>) -> Bytes {
        let mut chunks = self.chunks();
        if !self.has_begun {
            for (index, answer) in (0..).zip(outcome.answers()) {
                chunks.answer(index, answer);
            }
        }
        chunks.end(&self.job.finish(&outcome));
        chunks.into_bytes()
    }

    fn silence(&mut self) -> Bytes {
        let progress = self.come_to();
        let mut chunks = self.chunks();
        chunks.keep_alive(progress.completed, progress.planned);
        // No candidate ends while they are judged, and yet the run goes on.
        if self.job.stream_options.include_progress {
            chunks.progress(progress);
        }
        chunks.into_bytes()
    }

    async fn further(&mut self) -> Option<()> {
        if !self.job.stream_options.include_progress {
            return None;
        }
        self.progress.changed().await.ok()
    }

    fn progress(&mut self) -> Bytes {
        let progress = self.come_to();
        let mut chunks = self.chunks();
        chunks.progress(progress);
        chunks.into_bytes()
    }

    fn interrupted(&self, why: Interruption) -> ApiError {
        self.job.interrupted(why)
    }

    fn record(&self) -> &RequestRecord {
        self.job.record()
    }
}

impl Told {
    fn chunks(&self) -> Chunks<'_> {
        Chunks::new(&self.job.identity, self.job.stream_options.include_usage)
    }

    fn come_to(&mut self) -> Progress {
        let (completed, planned) = *self.progress.borrow_and_update();
        Progress { completed, planned, phase: self.job.phase() }
    }
}
