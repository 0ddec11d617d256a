//! The streamed response: server-sent events in OpenAI's chunk shape.
//!
//! What is final by construction (a single call) is passed on as it is generated. A vote is only known at
//! its end: until then comments keep the connection alive and, where they were asked for, chunks tell of its
//! progress; then the answer follows as chunks. The status line waits for the first sign of life, so that a run
//! which fails at once is a plain HTTP error.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::algorithms::{Observer, Outcome, RunError};
use crate::completion::Delta;
use crate::http::AppState;
use crate::http::backlog::{self, backlog};
use crate::http::error::ApiError;

use super::chunks::{Chunks, Progress};
use super::job::Job;
use super::response::guarded;
use super::running::{Interruption, Ticket};

/// More is not handed to the connection at a time: it would be copied whole, and kept until the last of it is read.
const PIECE_BYTES: usize = 64 << 10;

/// Runs the job and answers with a stream of its chunks.
///
/// # Cancel safety
///
/// The body owns the run: when the client disconnects, the server drops it and every call in flight ends. A body is
/// polled only as far as its client reads, so that the run listens for orders to end by itself.
pub async fn respond(job: Arc<Job>, ticket: Ticket, state: &AppState) -> Result<HttpResponse, ApiError> {
    let (writer, items) = backlog(ticket.order().clone(), state.unread_timeout);
    let (ended, progress) = watch::channel((0, job.planned()));
    let run = AbortOnDropHandle::new(state.home(job.is_plain()).spawn({
        let (job, order) = (Arc::clone(&job), ticket.order().clone());
        async move {
            let mut feed = Feed { writer, ended };
            let end = match order.or(job.run(&mut feed)).await {
                Ok(Ok(outcome)) => Item::Answer(Box::new(outcome)),
                Ok(Err(error)) => Item::Failed(error),
                // The response hears of it from its ticket.
                Err(_) => return,
            };
            feed.writer.end(end).await;
        }
    }));
    let work = Some(Work { ticket, _run: run });
    let mut events = Events { job, items, progress, keep_alive: state.keep_alive, begun: false, work };

    let first = events.hear().await;
    let headers = match &first {
        Some(Heard::Item(Item::Answer(outcome))) => guarded(|| events.job.finish(outcome).headers())?,
        _ => events.job.early_headers(),
    };
    let first = match first {
        Some(Heard::Item(Item::Failed(error))) => return Err(error.into()),
        Some(Heard::Interrupted(why)) => return Err(events.job.interrupted(why)),
        Some(Heard::BrokenOff) | None => {
            tracing::error!("a streamed run ended by a defect of ours");
            return Err(ApiError::internal());
        }
        Some(heard) => events.render(heard),
    };
    let mut response = HttpResponse::Ok();
    for header in headers {
        response.insert_header(header);
    }
    response.insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"));
    response.insert_header((CACHE_CONTROL, "no-cache"));
    let body = stream::unfold((first, events), |(mut bytes, mut events)| async move {
        if bytes.is_empty() {
            let heard = events.hear().await?;
            bytes = events.render(heard);
        }
        let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
        Some((Ok::<_, std::convert::Infallible>(piece), (bytes, events)))
    });
    Ok(response.streaming(body))
}

/// What the run tells the response.
enum Item {
    Delta(Delta),
    Answer(Box<Outcome>),
    Failed(RunError),
}

/// What the response hears next.
enum Heard {
    Item(Item),
    /// The run has come further.
    Progress,
    /// Nothing for as long as a stream may be silent.
    Silence,
    /// The order to end.
    Interrupted(Interruption),
    /// The run is gone without a word, which only a panic does.
    BrokenOff,
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
        self.writer.put(Item::Delta(delta), bytes).await;
    }

    fn progress(&mut self, completed: usize, planned: usize) {
        self.ended.send_replace((completed, planned));
    }
}

/// The response's end: turns what the run tells into events.
struct Events {
    job: Arc<Job>,
    items: backlog::Reader<Item>,
    progress: watch::Receiver<(usize, usize)>,
    keep_alive: Duration,
    /// Whether a delta went out.
    begun: bool,
    /// Until the last event is out.
    work: Option<Work>,
}

/// The run, which ends when this is dropped, and its place among those that can be cancelled.
struct Work {
    ticket: Ticket,
    _run: AbortOnDropHandle<()>,
}

impl Events {
    /// Waits for what is next; `None` after the last event.
    async fn hear(&mut self) -> Option<Heard> {
        let work = self.work.as_ref()?;
        let next = async {
            tokio::select! {
                biased;
                why = work.ticket.order().given() => Heard::Interrupted(why),
                // Before the end that may be here too, so that the last progress is told.
                Ok(()) = self.progress.changed(), if self.job.stream_options.include_progress => Heard::Progress,
                item = self.items.take() => match item {
                    Some(item) => Heard::Item(item),
                    // The run may have heard of the order first.
                    None => work.ticket.order().is_given().map_or(Heard::BrokenOff, Heard::Interrupted),
                },
            }
        };
        Some(timeout(self.keep_alive, next).await.unwrap_or(Heard::Silence))
    }

    fn render(&mut self, heard: Heard) -> Bytes {
        guarded(|| self.write(heard)).unwrap_or_else(|error| {
            self.work = None;
            let mut chunks = Chunks::new(&self.job.identity, false);
            chunks.event(&self.job.broken_off(error).body());
            chunks.into_bytes()
        })
    }

    fn write(&mut self, heard: Heard) -> Bytes {
        let job = Arc::clone(&self.job);
        let mut chunks = Chunks::new(&job.identity, job.stream_options.include_usage);
        match heard {
            Heard::Item(Item::Delta(delta)) => {
                chunks.live(&delta, !self.begun);
                self.begun = true;
            }
            Heard::Item(Item::Answer(outcome)) => {
                self.work = None;
                if !self.begun {
                    for (index, answer) in (0..).zip(outcome.answers()) {
                        chunks.answer(index, answer);
                    }
                }
                chunks.end(&job.finish(&outcome));
            }
            Heard::Item(Item::Failed(error)) => {
                self.work = None;
                chunks.event(&job.broken_off(error.into()).body());
            }
            Heard::Progress => chunks.progress(self.progress()),
            Heard::Silence => {
                let progress = self.progress();
                chunks.keep_alive(progress.completed, progress.planned);
                // No candidate ends while they are judged, and yet the run goes on.
                if job.stream_options.include_progress {
                    chunks.progress(progress);
                }
            }
            Heard::Interrupted(why) => {
                // The calls go first, then the client is told.
                self.work = None;
                chunks.event(&job.interrupted(why).body());
            }
            Heard::BrokenOff => {
                self.work = None;
                tracing::error!("a streamed run ended by a defect of ours");
                chunks.event(&job.broken_off(ApiError::internal()).body());
            }
        }
        chunks.into_bytes()
    }

    fn progress(&mut self) -> Progress {
        let (completed, planned) = *self.progress.borrow_and_update();
        Progress { completed, planned, phase: self.job.phase() }
    }
}
