//! What the daemon costs and how fast it lets go, measured from outside: the real program, the scripted upstream or the
//! stub of Bedrock, and sockets between them. It prints rows of a table, each with its limit, for `scripts/bench`.
//!
//! `cargo bench --bench service`, which needs what the stub does: `tests/bedrock_stub/server.rs` says how to come by it.

#[allow(dead_code, unused_imports, reason = "the upstream serves tests too, which need more of it")]
#[path = "../../tests/upstream/server.rs"]
mod upstream;

#[allow(dead_code, unused_imports, reason = "the stub serves tests too, which need more of it")]
#[path = "../../tests/bedrock_stub/server.rs"]
mod bedrock_stub;

mod cancellation;
mod daemon;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use daemon::{Connection, Daemon, question, scripted};
use upstream::{Pace, Point, Profile, Step, Upstream};

/// Streams whose first tokens are timed, of each kind.
const STREAMS: usize = 300;
/// Requests in flight while memory is measured, and the candidates of each.
const REQUESTS: usize = 256;
const BUDGET: usize = 8;

const MOST_ADDED_TO_FIRST_TOKEN: Duration = Duration::from_millis(2);
const MOST_IDLE_MB: f64 = 30.0;
const MOST_LOADED_MB: f64 = 150.0;

#[tokio::main]
async fn main() {
    first_token().await;
    memory().await;
    cancellation::measure().await;
}

/// One row: what was measured, its figure, and the most that it may be.
fn row(what: &str, figure: f64, most: f64, unit: &str) {
    let verdict = if figure <= most { "PASS" } else { "FAIL" };
    println!("| {what} | {figure:.2} {unit} | {most} {unit} | {verdict} |");
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Direct streams and streams through the daemon take turns, so that whatever else the machine does meets both alike.
async fn first_token() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback interface has a free port");
    let upstream = Upstream::start_on(listener, Profile::Plain, Some(upstream::Instant::new(Pace::default())));
    let daemon = Daemon::start(scripted(&upstream), json!({})).await;
    let body = question(json!({"budget": 1, "stream": true}));
    let mut direct = Connection::open(upstream.address()).await;
    let mut through = Connection::open(daemon.address).await;
    let (mut of_direct, mut of_through) = (Vec::new(), Vec::new());
    for turn in 0..STREAMS + 20 {
        let times = (stream(&mut direct, &body).await, stream(&mut through, &body).await);
        // The first ones warm up.
        if turn >= 20 {
            of_direct.push(times.0);
            of_through.push(times.1);
        }
    }
    let added = median(of_through).saturating_sub(median(of_direct));
    row("added to the first token of a stream, p50", ms(added), ms(MOST_ADDED_TO_FIRST_TOKEN), "ms");
}

/// Streams an answer to its end, and returns how long its first word took.
async fn stream(connection: &mut Connection, body: &Value) -> Duration {
    let asked = Instant::now();
    connection.ask(body).await;
    connection.read_until(b"\"content\":\"The").await;
    let first = asked.elapsed();
    connection.read_until(b"\r\n0\r\n\r\n").await;
    first
}

/// Memory of a daemon without a local model: idle, and with every candidate of many requests in flight.
async fn memory() {
    let upstream = Upstream::start().await;
    let in_flight = (REQUESTS * BUDGET) as u64;
    let daemon = Daemon::start(scripted(&upstream), json!({"n_parallel": in_flight, "max_queued": in_flight})).await;
    let mut connection = Connection::open(daemon.address).await;
    connection.ask(&question(json!({"budget": 1}))).await;
    connection.read_until(b"\"usage\"").await;
    let idle = daemon.resident_mb();

    upstream.answer_with(|_| Step::hang_at(Point::Request));
    let mut clients = Vec::new();
    for _ in 0..REQUESTS {
        let mut client = Connection::open(daemon.address).await;
        client.ask(&question(json!({"budget": BUDGET, "stop_rule": "none"}))).await;
        clients.push(client);
    }
    upstream.wait_for(|counters| counters.in_flight == in_flight).await;
    let loaded = daemon.resident_mb();
    row("resident memory, idle, no local model", idle, MOST_IDLE_MB, "MB");
    row(&format!("resident memory, {REQUESTS} requests of budget {BUDGET} in flight"), loaded, MOST_LOADED_MB, "MB");
}
