//! The streamed response: server-sent events in OpenAI's chunk shape.
//!
//! What is final by construction (a single call) is passed on as it is generated. A vote is only known at
//! its end: until then comments keep the connection alive, then the winner follows as chunks. The status
//! line waits for the first sign of life, so that a run which fails at once is a plain HTTP error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::algorithms::{Observer, Outcome, RunError};
use crate::completion::Delta;
use crate::http::error::ApiError;

use super::job::{Identity, Job};
use super::response::{Metadata, UsageObject};

/// The longest silence on a stream.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Deltas held for a slow reader before generation waits for it.
pub const PENDING_DELTAS: usize = 64;

/// Runs the job on `workers` and answers with a stream of its chunks.
///
/// # Cancel safety
///
/// The body owns the run: when the client disconnects, the server drops it and every call in flight ends.
pub async fn respond(job: Job, workers: &Handle) -> Result<HttpResponse, ApiError> {
    let job = Arc::new(job);
    let (sender, items) = mpsc::channel(PENDING_DELTAS);
    let ended = Arc::new(AtomicUsize::new(0));
    let run = AbortOnDropHandle::new(workers.spawn({
        let (job, ended) = (Arc::clone(&job), Arc::clone(&ended));
        async move {
            let mut feed = Feed { sender, ended };
            let result = job.run(&mut feed).await;
            // Without a reader there is nobody to tell.
            let _ = feed.sender.send(Item::Ended(result)).await;
        }
    }));
    let mut events = Events { job, items, ended, begun: false, over: false, _run: run };

    let mut response = HttpResponse::Ok();
    let first = match timeout(KEEP_ALIVE, events.items.recv()).await {
        Ok(Some(Item::Ended(Err(error)))) => return Err(error.into()),
        Ok(Some(Item::Ended(Ok(outcome)))) => {
            for header in events.job.finish(&outcome).headers() {
                response.insert_header(header);
            }
            events.render(Item::Ended(Ok(outcome)))
        }
        Ok(Some(item)) => {
            early_headers(&mut response, &events.job);
            events.render(item)
        }
        Ok(None) => {
            tracing::error!("a streamed run ended by a defect of ours");
            return Err(ApiError::internal());
        }
        Err(_) => {
            early_headers(&mut response, &events.job);
            events.keep_alive()
        }
    };
    response.insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"));
    response.insert_header((CACHE_CONTROL, "no-cache"));
    let body = stream::unfold((Some(first), events), |(first, mut events)| async move {
        let bytes = match first {
            Some(bytes) => bytes,
            None => events.next().await?,
        };
        Some((Ok::<_, std::convert::Infallible>(bytes), (None, events)))
    });
    Ok(response.streaming(body))
}

fn early_headers(response: &mut actix_web::HttpResponseBuilder, job: &Job) {
    for header in job.early_headers() {
        response.insert_header(header);
    }
}

/// What the run tells the response.
enum Item {
    Delta(Delta),
    Ended(Result<Outcome, RunError>),
}

/// The run's end of the stream.
struct Feed {
    sender: mpsc::Sender<Item>,
    ended: Arc<AtomicUsize>,
}

impl Observer for Feed {
    async fn delta(&mut self, delta: Delta) {
        // A reader that is gone takes the run with it; nothing is left to do here.
        let _ = self.sender.send(Item::Delta(delta)).await;
    }

    fn progress(&mut self, completed: usize, _: usize) {
        self.ended.store(completed, Ordering::Relaxed);
    }
}

/// The response's end: turns what the run tells into events.
struct Events {
    job: Arc<Job>,
    items: mpsc::Receiver<Item>,
    ended: Arc<AtomicUsize>,
    /// Whether a delta went out.
    begun: bool,
    over: bool,
    _run: AbortOnDropHandle<()>,
}

impl Events {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        Some(match timeout(KEEP_ALIVE, self.items.recv()).await {
            Ok(Some(item)) => self.render(item),
            Ok(None) => self.broken_off(),
            Err(_) => self.keep_alive(),
        })
    }

    fn keep_alive(&self) -> Bytes {
        let (ended, planned) = (self.ended.load(Ordering::Relaxed), self.job.planned());
        Bytes::from(format!(": its {ended}/{planned} candidates\n\n"))
    }

    /// The run is gone without a word, which only a panic does.
    fn broken_off(&mut self) -> Bytes {
        self.over = true;
        tracing::error!("a streamed run ended by a defect of ours");
        event(&ApiError::internal().body())
    }

    fn render(&mut self, item: Item) -> Bytes {
        match item {
            Item::Delta(delta) => {
                let mut out = Vec::new();
                if !self.begun && !has_role(&delta.fields) {
                    self.push_delta(&mut out, &role(), None);
                }
                self.begun = true;
                self.push_delta(&mut out, &delta.fields, delta.logprobs.as_deref());
                out.into()
            }
            Item::Ended(Err(error)) => {
                self.over = true;
                event(&ApiError::from(error).body())
            }
            Item::Ended(Ok(outcome)) => {
                self.over = true;
                let mut out = Vec::new();
                if !self.begun {
                    self.push_winner(&mut out, &outcome);
                }
                self.push_end(&mut out, &outcome);
                out.into()
            }
        }
    }

    /// The answer of a vote, as the deltas that a model would have sent.
    fn push_winner(&self, out: &mut Vec<u8>, outcome: &Outcome) {
        let winner = outcome.winner();
        self.push_delta(out, &role(), None);
        let mut fields: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(winner.reply.raw().get()).unwrap_or_default();
        fields.retain(|_, value| value.get() != "null");
        fields.remove("role");
        let calls = fields.remove("tool_calls");
        if !fields.is_empty() || winner.logprobs.is_some() {
            self.push_delta(out, &to_raw(&fields), winner.logprobs.as_deref());
        }
        let calls: Vec<BTreeMap<String, Box<RawValue>>> =
            calls.and_then(|calls| serde_json::from_str(calls.get()).ok()).unwrap_or_default();
        for (index, mut call) in calls.into_iter().enumerate() {
            call.insert("index".to_owned(), to_raw(&index));
            self.push_delta(out, &to_raw(&BTreeMap::from([("tool_calls", [call])])), None);
        }
    }

    /// The chunk with the finish reason, the usage where it was asked for, and the terminator.
    fn push_end(&self, out: &mut Vec<u8>, outcome: &Outcome) {
        let finished = self.job.finish(outcome);
        let empty = to_raw(&BTreeMap::<&str, ()>::new());
        let choice = ChunkChoice {
            index: 0,
            delta: &empty,
            logprobs: None,
            finish_reason: Some(outcome.winner().finish_reason.as_str()),
        };
        self.push_chunk(out, &[choice], UsageField::pending(self.job.include_usage), finished.metadata());
        if self.job.include_usage {
            self.push_chunk(out, &[], UsageField::Known(finished.usage.into()), None);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn push_delta(&self, out: &mut Vec<u8>, delta: &RawValue, logprobs: Option<&RawValue>) {
        let choice = ChunkChoice { index: 0, delta, logprobs, finish_reason: None };
        self.push_chunk(out, &[choice], UsageField::pending(self.job.include_usage), None);
    }

    fn push_chunk(
        &self,
        out: &mut Vec<u8>,
        choices: &[ChunkChoice<'_>],
        usage: UsageField,
        metadata: Option<Metadata<'_>>,
    ) {
        let Identity { completion_id, created, model, .. } = &self.job.identity;
        let object = "chat.completion.chunk";
        push_event(out, &Chunk { id: completion_id, object, created: *created, model, choices, usage, metadata });
    }
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "UsageField::is_absent")]
    usage: UsageField,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: &'a RawValue,
    logprobs: Option<&'a RawValue>,
    finish_reason: Option<&'a str>,
}

/// With `include_usage` every chunk has the field: null until the last.
#[derive(Serialize)]
#[serde(untagged)]
enum UsageField {
    Absent,
    Pending(()),
    Known(UsageObject),
}

impl UsageField {
    fn pending(include_usage: bool) -> Self {
        if include_usage { Self::Pending(()) } else { Self::Absent }
    }

    fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

fn has_role(delta: &RawValue) -> bool {
    #[derive(serde::Deserialize)]
    struct View {
        role: Option<String>,
    }
    serde_json::from_str::<View>(delta.get()).is_ok_and(|view| view.role.is_some())
}

fn role() -> Box<RawValue> {
    RawValue::from_string(r#"{"role":"assistant","content":""}"#.to_owned()).expect("a literal is valid JSON")
}

fn to_raw(value: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("maps with string keys always serialise")
}

pub fn event(value: &impl Serialize) -> Bytes {
    let mut out = Vec::new();
    push_event(&mut out, value);
    out.into()
}

fn push_event(out: &mut Vec<u8>, value: &impl Serialize) {
    out.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut *out, value).expect("chunks always serialise to memory");
    out.extend_from_slice(b"\n\n");
}
