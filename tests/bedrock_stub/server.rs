//! A stub of the runtime of AWS Bedrock on a real socket, for tests of this project in any language. This page is its
//! manual.
//!
//! # What it serves
//!
//! `POST {prefix}/model/{modelId}/converse` and `/converse-stream` over HTTP/1.1, whatever the prefix; the model ID is
//! percent-encoded in the path, as AWS's clients have it. Everything else is AWS's 404.
//!
//! # What it checks
//!
//! 1. Who asks. Either the signature (version 4, service `bedrock`, not more than 5 minutes from the stub's clock), which
//!    the stub computes itself (`signature.rs`), or a borne key. Known unless told otherwise: [`ACCESS_KEY_ID`] and, with
//!    [`SESSION_TOKEN`], [`TEMPORARY_KEY_ID`], both with [`SECRET_ACCESS_KEY`]; [`BEARER_KEY`]; the region [`REGION`].
//!    [`Control`] replaces each, lets keys be expired or denied, and sets the clock. Headers that decide (`host` and
//!    `x-amz-*`) must be signed.
//! 2. Whether the body fits the service model of botocore (`service_model.rs`): 400 `ValidationException`. It is stricter
//!    than AWS in one thing: members that the model does not know are refused, where AWS may overlook them.
//! 3. Whether it fits the rules that are not in the model (`rules.rs`): turns, results of tools, blank texts. What single
//!    models refuse ([`ModelRules`]) holds where a test says so. Whatever `additionalModelRequestFields` holds is taken.
//!    Messages of the role `system`, which the service model knows, are refused: they do not alternate.
//!
//! # How it is told
//!
//! A script is a queue of steps; [`Step`] lists what a step can do: blocks of every kind, any stop reason and usage, any
//! error, status, headers or body; delays, gates, breaking off, hanging, a reset; in streams exceptions, wrong checksums,
//! cut and split messages. Unscripted, it says one sentence, or uses the first tool that is offered. A request that the
//! stub refuses takes no step. In Rust:
//!
//! ```ignore
//! let bedrock = BedrockStub::start().await;
//! bedrock.push(Step::text("42"));                                  // the next request
//! bedrock.push(Step::tool_use("tooluse_1", "add", json!({"a": 1})));
//! bedrock.push(Step::error("ThrottlingException").retry_after(RetryAfter::Seconds(1)));
//! bedrock.push(Step::exception_after(3, "ModelStreamErrorException")); // after three events of a stream
//! bedrock.set_rules("*", ModelRules { refuses_prefill: true, ..ModelRules::default() });
//! bedrock.answer_with(|seen| Step::text(&seen.number.to_string()));    // when no step is left
//! // … ask `bedrock.url()`, signing with [`ACCESS_KEY_ID`] and [`SECRET_ACCESS_KEY`] …
//! bedrock.wait_for(|counters| counters.streams_closed_early == 1).await;
//! assert_eq!(bedrock.requests()[0].json()["inferenceConfig"]["maxTokens"], 5);
//! ```
//!
//! In another process, `bedrock-stub` is told over HTTP:
//!
//! - `POST /control` takes the fields of [`Control`], each optional, for example `{"model": "amazon.nova-lite-v1:0",
//!   "steps": [{"error": {"kind": "ThrottlingException"}}], "cycle": true}`. A block of an answer is `{"text": ".."}`,
//!   `{"tool_use": {"name", "input", "id"}}`, `{"reasoning": {"text", "signature"}}` or `{"redacted": "base64"}`.
//! - `GET /control` returns `{"counters": {..}, "now_us", "closed_early": [..]}`. With a query such as
//!   `?requests=3&closed_early=1` it first waits, up to 30 seconds, until each counter is at least that (`in_flight`:
//!   exactly that), and answers 504 when that does not come.
//! - `GET /_stub/requests` returns what was seen: `[{"number", "method", "path", "model_id", "is_stream", "key_id",
//!   "refused", "headers", "body"}, ..]`, without signatures and tokens.
//!
//! # What it needs
//!
//! The service model, which is not kept here: `scripts/test` installs botocore into `.venv`, and the variable
//! `BEDROCK_SERVICE_MODEL` names the file where that is elsewhere. Without it a test that starts a stub fails and says so.

mod access;
mod answer;
mod connection;
mod counters;
mod deliver;
mod documents;
mod event_stream;
mod failure;
mod rules;
mod script;
mod service_model;
mod signature;
mod state;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::state::{PATIENCE, Shared};
#[allow(unused_imports, reason = "a test needs other parts of it than the program")]
pub use self::{
    access::Credentials,
    counters::{ClosedEarly, Counters},
    failure::Failure,
    rules::ModelRules,
    script::{Block, Control, Event, Point, Script, Step, ToolUse},
    service_model::ServiceModel,
    state::{ACCESS_KEY_ID, BEARER_KEY, REGION, SECRET_ACCESS_KEY, SESSION_TOKEN, Seen, TEMPORARY_KEY_ID},
};
// HTTP is the same by hand here and there.
pub use crate::upstream::RetryAfter;
use crate::upstream::wire;

/// A running stub. Dropping it closes its port and its connections.
pub struct BedrockStub {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl BedrockStub {
    /// Starts on a free port of the loopback interface, with the service model that is installed.
    ///
    /// # Panics
    ///
    /// When there is none, saying how to come by it.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback interface has a free port");
        Self::start_on(listener, ServiceModel::installed())
    }

    pub fn start_on(listener: TcpListener, model: Arc<ServiceModel>) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::new(model));
        let accepting = tokio::spawn(connection::accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint, for what calls it `AWS_ENDPOINT_URL_BEDROCK_RUNTIME` or `endpoint`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Appends a step for whichever request comes next.
    pub fn push(&self, step: Step) {
        self.shared.state().scripts.entry(None).or_default().push(step);
    }

    /// Answers every further request with what `answer` makes of it.
    pub fn answer_with(&self, answer: impl Fn(&Seen) -> Step + Send + Sync + 'static) {
        self.shared.state().answer = Some(Box::new(answer));
    }

    /// What a model does not take from now on; `*` is for those that are not named.
    pub fn set_rules(&self, model_id: &str, rules: ModelRules) {
        self.shared.state().rules.insert(model_id.to_owned(), rules);
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
            Ok(counters) => *counters.expect("the stub holds the sender"),
            Err(_) => panic!("the stub never came to what was waited for: {:?}", self.counters()),
        }
    }

    /// The requests for models that were received, those too that were refused.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// Waits until the stub stops, which it does not by itself.
    pub async fn run(mut self) {
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for BedrockStub {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl fmt::Debug for BedrockStub {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BedrockStub").field("address", &self.address).finish_non_exhaustive()
    }
}
