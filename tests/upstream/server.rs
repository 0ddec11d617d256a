//! A scripted OpenAI-compatible upstream on a real socket, for tests of this project in any language and for its
//! benchmark. This page is its manual.
//!
//! # What it serves
//!
//! `/v1/chat/completions` (whole and streamed, tools, log-probabilities, usage), the legacy `/v1/completions`, which
//! counts as chat in all that follows, `/v1/models`, and OpenAI's 404 for everything else. It refuses what OpenAI
//! refuses. Unscripted, it answers every request with one fixed sentence, or with a call of the first tool where tools
//! are offered.
//!
//! # Which server it stands for
//!
//! A [`Profile`] changes paths, keys, which requests are taken, and how answers and errors look; `profile.rs` lists them
//! as data. [`Profile::Plain`], the default, is OpenAI's protocol for any key. The others:
//!
//! | profile | what is otherwise |
//! |---|---|
//! | `openai` | a bearer key; unknown fields are 400; families that think first refuse `max_tokens` and sampling settings |
//! | `azure` | `/openai/deployments/NAME`, where `api-version` is asked for, or `/openai/v1`; the key in `api-key`; streams begin with an empty chunk and end with one without delta |
//! | `openrouter` | `/api/v1`; comments before a stream; errors in its middle beside a choice; usage unasked |
//! | `groq` | `/openai/v1`; unknown fields, log-probabilities and `n` above 1 are 400; 413 is a rate limit |
//! | `together` | log-probabilities as lists; usage in the last chunk; a bare list of models |
//! | `deepinfra` | `/v1/openai`; a forced tool is 400; errors hold a message alone |
//! | `ollama` | tool calls whole and without index; streams of them end in `stop`; `reasoning`; one choice |
//! | `lmstudio` | `json_object` is 400; an error is a string; unknown paths are 200; log-probabilities are null; one choice |
//! | `vllm` | errors are flat; choices of a stream take turns; no `usage` in other chunks |
//! | `llama-server` | the code of an error is in its body and 500 on the wire |
//! | `old-llama-server` | `n` above 1 is refused; streams end without `[DONE]` and name errors `error:` |
//! | `text-generation-webui` | lines end in CR LF, comments, no `[DONE]`; says so when sampling is left to its preset; one choice |
//! | `gemini-compatible` | `/v1beta/openai`; unknown fields are 400; errors in a list; tool calls all of index 0, ending in `stop` |
//! | `ignores-n` | takes `n` and gives one choice |
//! | `html-errors` | errors are pages |
//! | `error-in-200` | errors have the status 200, and are events of streams |
//!
//! Where a key is asked for, every one is good that does not hold the word `wrong`.
//!
//! # How it is told
//!
//! A script is a queue of steps; [`Step`] lists what a step can do: any status, headers, body, refusal or error, a
//! delay, a pace, breaking off or hanging or a reset at any point, crawling, waiting for a gate that a test opens.
//! [`Step::refused`] is refused as the profile refuses. [`RetryAfter`] has every form of that header. In Rust a test calls
//! [`Upstream::push`], [`Upstream::answer_with`], [`Upstream::control`] and [`Upstream::open_gate`]; in another process
//! it speaks to the control endpoint:
//!
//! - `POST /control` takes the fields of [`Control`], each optional: `{"reset", "model", "steps": [..], "cycle",
//!   "honour_n", "profile", "pace", "chaos", "open": [gate, ..]}`, for example `{"model": "busy", "steps": [{"refuse":
//!   429, "retry_after": {"seconds": 1}}], "cycle": true}`: from then on the model `busy` is rate limited.
//! - `GET /control` returns `{"counters": {..}, "now_us", "closed_early": [{"number", "received_at_us",
//!   "closed_at_us"}, ..], "seen": [{"number", "method", "path", "headers", "body"}, ..]}`. With a query such as
//!   `?requests=3&closed_early=1` it first waits, up to 30 seconds, until each counter is at least that (`in_flight`:
//!   exactly that), and answers 504 when that does not come. With `seen=no` it leaves out what was seen.
//!
//! Tests need no sleeps: gates hold an answer back, and counters are waited for.
//!
//! # What it counts
//!
//! [`Counters`] tells of requests, choices, tokens, failures, and of clients that left. `closed_at_us` is when the
//! closed connection of a client that left was noticed, on the clock of `now_us`: who closed it at a known moment can
//! tell how long that took.
//!
//! # How it is slow
//!
//! A [`Pace`] (a step's own, or one for all) is the time to the first token and the tokens per second after it, with
//! jitter from a seed. It models latency, and is no way to wait for something in a test.
//!
//! # How it fails by chance
//!
//! [`Chaos`] is how often what goes wrong. What becomes of an attempt follows from the seed, the body, and how often that
//! body came before: with a seed in every request, a candidate fails alike in every run. A test that fails prints the seed,
//! and `UPSTREAM_CHAOS_SEED` sets it.
//!
//! # For benchmarks
//!
//! The instant mode ([`Instant`]) gives every chat request the same completion, made once: it honours `n` and streams,
//! counts, and can take its time, but neither scripts nor records.

mod accept;
mod chaos;
mod chat;
mod completion;
mod connection;
mod counters;
mod deliver;
mod draw;
mod dress;
mod instant;
mod known_fields;
mod logprobs;
mod pace;
mod profile;
mod refusal;
mod retry_after;
mod script;
mod state;
mod text;
pub mod wire;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::state::{PATIENCE, Shared};
#[allow(unused_imports, reason = "a test needs other parts of it than the program")]
pub use self::{
    chaos::{Chaos, SEED_VARIABLE},
    counters::{ClosedEarly, Counters},
    instant::Instant,
    pace::Pace,
    profile::{Key, Profile},
    retry_after::RetryAfter,
    script::{Call, Control, Point, Script, Step},
    state::Seen,
    wire::Request,
};

/// A running upstream. Dropping it closes its port and its connections.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Upstream {
    /// Starts on a free port of the loopback interface.
    pub async fn start() -> Self {
        Self::with_profile(Profile::Plain).await
    }

    /// The same for an upstream that stands for another server.
    pub async fn with_profile(profile: Profile) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback interface has a free port");
        Self::start_on(listener, profile, None)
    }

    /// Starts on `listener`. An `instant` upstream gives every chat request the same answer: for benchmarks.
    pub fn start_on(listener: TcpListener, profile: Profile, instant: Option<Instant>) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::new(profile, instant));
        let accepting = tokio::spawn(connection::accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// Stops listening: whoever connects from now on is refused.
    pub async fn stop(mut self) {
        self.accepting.abort();
        // The socket is closed when the task has ended.
        let _ = (&mut self.accepting).await;
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for `endpoint`, usually ending in `/v1`; of Azure that of the resource, which deployments are under.
    pub fn base_url(&self) -> String {
        match self.shared.state().profile {
            Profile::Azure => format!("http://{}", self.address),
            profile => format!("http://{}{}", self.address, profile.quirks().base_path),
        }
    }

    /// Appends a step for whichever request comes next.
    pub fn push(&self, step: Step) {
        self.shared.state().scripts.entry(None).or_default().push(step);
    }

    /// Answers every further request with what `answer` makes of it.
    pub fn answer_with(&self, answer: impl Fn(&Seen) -> Step + Send + Sync + 'static) {
        self.shared.state().answer = Some(Box::new(answer));
    }

    /// From then on answers once, whatever `n` says.
    pub fn ignore_n(&self) {
        self.shared.state().honours_n = Some(false);
    }

    /// Does what `POST /control` would.
    pub fn control(&self, control: Control) {
        self.shared.control(control);
    }

    pub fn open_gate(&self, name: &str) {
        self.shared.state().gate(name).send_replace(true);
    }

    pub fn counters(&self) -> Counters {
        *self.shared.counters.borrow()
    }

    /// The requests whose client left before the answer was out, in the order in which that was noticed.
    pub fn closed_early(&self) -> Vec<ClosedEarly> {
        self.shared.state().closed_early.clone()
    }

    /// Waits until the counters satisfy `condition`.
    ///
    /// # Panics
    ///
    /// When that does not happen within 30 seconds.
    pub async fn wait_for(&self, condition: impl FnMut(&Counters) -> bool) -> Counters {
        let mut counters = self.shared.counters.subscribe();
        match tokio::time::timeout(PATIENCE, counters.wait_for(condition)).await {
            Ok(counters) => *counters.expect("the upstream holds the sender"),
            Err(_) => panic!("the upstream never came to what was waited for: {:?}", self.counters()),
        }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// Waits until the upstream stops, which it does not by itself.
    pub async fn run(mut self) {
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
        if let Some(chaos) = self.shared.state().chaos.filter(|_| std::thread::panicking()) {
            eprintln!("the chaos of this run comes again with {SEED_VARIABLE}={}", chaos.seed);
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Upstream").field("address", &self.address).finish_non_exhaustive()
    }
}
