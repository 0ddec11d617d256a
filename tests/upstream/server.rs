//! A scripted OpenAI-compatible upstream on a real socket, for tests of this project in any language and
//! for its benchmark.
//!
//! It serves `/v1/chat/completions` (whole and streamed, tools, log-probabilities, usage), the legacy
//! `/v1/completions`, which counts as chat in all that follows, `/v1/models`, and OpenAI's 404 for everything else, and refuses what OpenAI refuses. Unscripted, it answers every request
//! with one fixed sentence, or with a call of the first tool where tools are offered.
//!
//! A script is a queue of steps (`script.rs` lists what a step can do: any status, headers, body or error,
//! breaking off or hanging at any point, crawling, waiting for a gate that a test opens). In Rust a test
//! calls [`Upstream::push`], [`Upstream::answer_with`] and [`Upstream::open_gate`]; in another process it
//! speaks to the control endpoint:
//!
//! - `POST /control` takes `{"reset", "model", "steps": [..], "cycle", "honour_n", "open": [gate, ..]}`, each
//!   optional, for example `{"model": "busy", "steps": [{"status": 429, "headers": {"retry-after": "1"},
//!   "body": "{}"}], "cycle": true}`: from then on the model `busy` is rate limited.
//! - `GET /control` returns `{"counters": {..}, "seen": [{"number", "method", "path", "headers", "body"}, ..]}`.
//!   With a query such as `?requests=3&closed_early=1` it first waits, up to 30 seconds, until each counter is
//!   at least that (`in_flight`: exactly that), and answers 504 when that does not come.
//!
//! Tests need no sleeps: gates hold an answer back, and counters are waited for.

mod chat;
mod counters;
mod draw;
mod instant;
mod pace;
mod script;
mod text;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as Clock};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use self::chat::{Answer, Chat};
use self::counters::InFlight;
pub use self::counters::{ClosedEarly, Counters};
pub use self::instant::Instant;
use self::instant::Wish;
pub use self::wire::Request;
#[allow(unused_imports, reason = "a test needs other parts of it than the program")]
pub use self::{
    pace::Pace,
    script::{Call, Control, Point, Script, Step},
};

/// A chat request that was received.
#[derive(Debug, Clone)]
pub struct Seen {
    /// In order of arrival, from 0.
    pub number: u64,
    pub request: Request,
}

impl Seen {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.request.body).expect("a chat request is text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.request.body).expect("a chat request is JSON")
    }
}

/// A running upstream. Dropping it closes its port and its connections.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

type AnswerFn = Box<dyn Fn(&Seen) -> Step + Send + Sync>;

struct Shared {
    counters: watch::Sender<Counters>,
    state: Mutex<State>,
    instant: Option<Instant>,
    began: Clock,
}

struct State {
    scripts: HashMap<Option<String>, Script>,
    answer: Option<AnswerFn>,
    gates: HashMap<String, watch::Sender<bool>>,
    seen: Vec<Seen>,
    closed_early: Vec<ClosedEarly>,
    honours_n: bool,
    /// Counts the resets: what began before the last one is not counted after it.
    generation: u64,
}

impl Upstream {
    /// Starts on a free port of the loopback interface.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback interface has a free port");
        Self::start_on(listener, None)
    }

    /// Starts on `listener`. An `instant` upstream gives every chat request the same answer: for benchmarks.
    pub fn start_on(listener: TcpListener, instant: Option<Instant>) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { instant, ..Shared::default() });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for `endpoint`, ending in `/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Appends a step for whichever request comes next.
    pub fn push(&self, step: Step) {
        self.shared.state().scripts.entry(None).or_default().push(step);
    }

    /// Answers every further request with what `answer` makes of it.
    pub fn answer_with(&self, answer: impl Fn(&Seen) -> Step + Send + Sync + 'static) {
        self.shared.state().answer = Some(Box::new(answer));
    }

    pub fn open_gate(&self, name: &str) {
        self.shared.state().gate(name).send_replace(true);
    }

    pub fn counters(&self) -> Counters {
        *self.shared.counters.borrow()
    }

    /// Waits until the counters satisfy `condition`.
    ///
    /// # Panics
    ///
    /// When that does not happen within 30 seconds.
    pub async fn wait_for(&self, condition: impl FnMut(&Counters) -> bool) -> Counters {
        let mut counters = self.shared.counters.subscribe();
        match tokio::time::timeout(Duration::from_secs(30), counters.wait_for(condition)).await {
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
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Upstream").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self { counters: watch::Sender::default(), state: Mutex::default(), instant: None, began: Clock::now() }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            scripts: HashMap::new(),
            answer: None,
            gates: HashMap::new(),
            seen: Vec::new(),
            closed_early: Vec::new(),
            honours_n: true,
            generation: 0,
        }
    }
}

impl State {
    fn gate(&mut self, name: &str) -> &watch::Sender<bool> {
        self.gates.entry(name.to_owned()).or_default()
    }

    fn step(&mut self, seen: &Seen, model: &str) -> Step {
        let own = self.scripts.get_mut(&Some(model.to_owned()));
        let step = own.and_then(Script::next).or_else(|| self.scripts.get_mut(&None)?.next());
        step.or_else(|| self.answer.as_ref().map(|answer| answer(seen))).unwrap_or_default()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked in its answer function has failed already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn gate_opened(&self, name: &str) {
        let mut gate = self.state().gate(name).subscribe();
        // A reset forgets the gate, and with it whoever waits.
        let _ = gate.wait_for(|open| *open).await;
    }

    fn control(&self, control: Control) {
        let mut state = self.state();
        if control.reset {
            *state = State { generation: state.generation + 1, ..State::default() };
            self.counters.send_replace(Counters::default());
        }
        if let Some(steps) = control.steps {
            state.scripts.insert(control.model, Script::new(steps, control.cycle));
        }
        if let Some(honours_n) = control.honour_n {
            state.honours_n = honours_n;
        }
        for name in control.open {
            state.gate(&name).send_replace(true);
        }
    }

    fn report(&self) -> Value {
        let state = self.state();
        let seen: Vec<Value> = state
            .seen
            .iter()
            .map(|seen| {
                let body = serde_json::from_slice(&seen.request.body).unwrap_or(Value::Null);
                let headers: HashMap<&str, &str> =
                    seen.request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                json!({
                    "number": seen.number,
                    "method": seen.request.method,
                    "path": seen.request.target,
                    "headers": headers,
                    "body": body,
                })
            })
            .collect();
        json!({
            "counters": *self.counters.borrow(),
            "now_us": u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            "closed_early": state.closed_early,
            "seen": seen,
        })
    }

    /// Waits for the counters that the query of `GET /control` names; `false` when they do not come.
    async fn reached(&self, query: &str) -> bool {
        let wanted: Vec<(String, u64)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect();
        let mut counters = self.counters.subscribe();
        let reached = counters.wait_for(|counters| {
            let counters = json!(counters);
            wanted.iter().all(|(name, wanted)| match counters[name].as_u64() {
                Some(count) if name == "in_flight" => count == *wanted,
                Some(count) => count >= *wanted,
                None => false,
            })
        });
        tokio::time::timeout(Duration::from_secs(30), reached).await.is_ok()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                shared.counters.send_modify(|counters| counters.connections += 1);
                connections.spawn(serve(socket, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection until either side closes it.
async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let _ = socket.set_nodelay(true);
    let (mut reader, mut writer) = socket.into_split();
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        let Some(lengths) = wire::receive(&mut reader, &mut buffer).await else {
            if !buffer.is_empty() {
                let _ = writer.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
            }
            return;
        };
        if let Some(instant) = &shared.instant
            && buffer.starts_with(b"POST /v1/chat/completions ")
        {
            let in_flight = InFlight::new(&shared);
            let (head, body) = lengths;
            let wish = Wish::of(&buffer[head..head + body]);
            buffer.drain(..head + body);
            let goes_on = tokio::select! {
                biased;
                sent = instant.answer(wish, &in_flight, &mut writer) => match sent {
                    Ok(()) => in_flight.answered(),
                    Err(_) => in_flight.left(),
                },
                () = wire::closed(&mut reader, &mut buffer) => in_flight.left(),
            };
            if !goes_on {
                return;
            }
            continue;
        }
        let Some(request) = wire::parse(&mut buffer, lengths) else { return };
        let is_chat = request.method == "POST" && route(request.path()).is_some();
        if !is_chat {
            let (status, body) = other_route(&request, &shared).await;
            if send(&mut writer, status, &body.to_string()).await.is_err() {
                return;
            }
            continue;
        }
        let in_flight = InFlight::new(&shared);
        let goes_on = tokio::select! {
            biased;
            goes_on = answer(request, &mut writer, &shared) => goes_on.unwrap_or_else(|_| in_flight.left()),
            () = wire::closed(&mut reader, &mut buffer) => in_flight.left(),
        };
        if !goes_on {
            return;
        }
    }
}

enum Route {
    Chat,
    Text,
}

/// What is asked at a path: OpenAI's, or Azure's with and without a deployment in it.
fn route(path: &str) -> Option<Route> {
    let of_azure = path.strip_prefix("/openai/deployments/").and_then(|path| Some(path.split_once('/')?.1));
    let of_openai = path.strip_prefix("/openai").unwrap_or(path).strip_prefix("/v1/");
    match of_azure.or(of_openai)? {
        "chat/completions" => Some(Route::Chat),
        "completions" => Some(Route::Text),
        _ => None,
    }
}

/// Answers a chat request as scripted; whether the connection may serve another.
async fn answer(request: Request, writer: &mut OwnedWriteHalf, shared: &Shared) -> std::io::Result<bool> {
    let chat = match route(request.path()) {
        Some(Route::Text) => Chat::parse_text(&request.body),
        _ => Chat::parse(&request.body),
    };
    let (number, step, honours_n) = {
        let mut state = shared.state();
        let seen = Seen { number: state.seen.len() as u64, request };
        let step = chat.as_ref().ok().map(|chat| state.step(&seen, &chat.model));
        let number = seen.number;
        state.seen.push(seen);
        (number, step.unwrap_or_default(), state.honours_n)
    };
    let chat = match chat {
        Ok(chat) => chat,
        Err(error) => return send(writer, 400, &error.to_string()).await.map(|()| true),
    };
    if let Some(gate) = &step.gate {
        shared.gate_opened(gate).await;
    }
    if breaks_off(&step, Point::Request).await {
        return Ok(false);
    }
    let answer = match &step.body {
        Some(body) => Answer { content_type: "application/json", pieces: vec![body.clone()], first_content: 1 },
        None => chat.answer(&step, number, honours_n),
    };
    let mut headers = vec![("content-type".to_owned(), answer.content_type.to_owned())];
    for (name, value) in &step.headers {
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        headers.push((name.clone(), value.clone()));
    }
    let pieces: Vec<Vec<u8>> = match step.split_bytes {
        Some(size) => answer.pieces.concat().as_bytes().chunks(size.max(1)).map(<[u8]>::to_vec).collect(),
        None => answer.pieces.into_iter().map(String::into_bytes).collect(),
    };
    let is_chunked = chat.stream || step.split_bytes.is_some();
    let length = pieces.iter().map(Vec::len).sum();
    wire::send_head(writer, step.status.unwrap_or(200), &headers, (!is_chunked).then_some(length)).await?;
    if breaks_off(&step, Point::Head).await {
        return Ok(false);
    }
    let breaks = step.close_at.or(step.hang_at) == Some(Point::Body);
    if !is_chunked {
        let body = pieces.concat();
        let half = if breaks { body.len() / 2 } else { body.len() };
        writer.write_all(&body[..half]).await?;
        return Ok(!breaks_off(&step, Point::Body).await);
    }
    for (at, piece) in pieces.iter().enumerate() {
        if at == answer.first_content
            && let Some(gate) = &step.stream_gate
        {
            shared.gate_opened(gate).await;
        }
        if breaks && at >= pieces.len() / 2 {
            breaks_off(&step, Point::Body).await;
            return Ok(false);
        }
        if let Some(pause) = step.drip_ms {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        wire::send_chunk(writer, piece).await?;
    }
    wire::send_chunk(writer, b"").await?;
    Ok(true)
}

/// Whether the answer ends at `point`; one that hangs there never returns.
async fn breaks_off(step: &Step, point: Point) -> bool {
    if step.hang_at == Some(point) {
        std::future::pending::<()>().await;
    }
    step.close_at == Some(point)
}

async fn other_route(request: &Request, shared: &Shared) -> (u16, Value) {
    match (request.method.as_str(), request.path()) {
        ("GET", "/v1/models") => {
            let mut names: Vec<String> = shared.state().scripts.keys().flatten().cloned().collect();
            names.extend(["scripted".to_owned()]);
            names.sort_unstable();
            let models: Vec<Value> = names
                .iter()
                .map(|name| json!({"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "tests"}))
                .collect();
            (200, json!({"object": "list", "data": models}))
        }
        ("GET", "/control") => {
            let query = request.target.split_once('?').map_or("", |(_, query)| query);
            let status = if query.is_empty() || shared.reached(query).await { 200 } else { 504 };
            (status, shared.report())
        }
        ("POST", "/control") => match serde_json::from_slice(&request.body) {
            Ok(control) => {
                shared.control(control);
                (200, json!({}))
            }
            Err(error) => (400, chat::invalid(None, None, &error.to_string())),
        },
        (method, _) => {
            let message = format!("Invalid URL ({method} {})", request.target);
            (404, chat::invalid(None, Some("unknown_url"), &message))
        }
    }
}

async fn send(writer: &mut OwnedWriteHalf, status: u16, body: &str) -> std::io::Result<()> {
    let headers = [("content-type".to_owned(), "application/json".to_owned())];
    wire::send_head(writer, status, &headers, Some(body.len())).await?;
    writer.write_all(body.as_bytes()).await
}
