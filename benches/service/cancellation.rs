//! How soon the connections to the upstream are closed once nobody will read what comes over them.

use std::ops::Range;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bedrock_stub::{self, BedrockStub};
use crate::daemon::{Connection, Daemon, bedrock, question, scripted};
use crate::upstream::{self, Upstream};
use crate::{ms, row};

/// Times that each way to end is measured; the longest counts.
const TIMES: usize = 10;
const BUDGET: u64 = 8;
/// So many of them decide a vote.
const MAJORITY: u64 = 5;
const DEADLINE: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_millis(100);

/// Why calls end that still run.
#[derive(Debug, Clone, Copy)]
enum End {
    Disconnect,
    Decided,
    Deadline,
    Endpoint,
    Shutdown,
}

/// Who is called, and sees its connections close.
enum Called {
    Scripted(Upstream),
    Bedrock(BedrockStub),
}

/// Measures every way to end, for whole answers and for streams, with OpenAI's protocol and with Bedrock's.
pub async fn measure() {
    for (end, words) in [
        (End::Disconnect, "the client left"),
        (End::Decided, "the vote was decided"),
        (End::Deadline, "the deadline passed"),
        (End::Endpoint, "POST /v1/chat/cancel"),
        (End::Shutdown, "the daemon was told to stop at once"),
    ] {
        for (stream, kind) in [(false, "plain"), (true, "streaming")] {
            let scripted = Called::Scripted(Upstream::start().await);
            let bedrock = Called::Bedrock(BedrockStub::start().await);
            for (called, whose) in [(scripted, "upstream"), (bedrock, "Bedrock's")] {
                let longest = longest(end, stream, &called).await;
                row(&format!("{whose} connections closed after {words}, {kind}, at most"), ms(longest), ms(MOST), "ms");
            }
        }
    }
}

async fn longest(end: End, stream: bool, called: &Called) -> Duration {
    let mut daemon = Daemon::start(called.provider(), json!({})).await;
    let mut longest = Duration::ZERO;
    for turn in 0..TIMES {
        if matches!(end, End::Shutdown) && turn > 0 {
            daemon = Daemon::start(called.provider(), json!({})).await;
        }
        longest = longest.max(once(end, stream, called, &daemon).await);
    }
    longest
}

/// From the moment that the rest of the calls has no use any more until the last of their connections is closed.
async fn once(end: End, stream: bool, called: &Called, daemon: &Daemon) -> Duration {
    let is_decided = matches!(end, End::Decided);
    let (first, closed_before) = called.requests_and_closed_early();
    let gate = format!("from {first}");
    called.answer(first..first + if is_decided { MAJORITY } else { 0 }, &gate);
    let limits = if matches!(end, End::Deadline) { json!({"deadline_ms": ms(DEADLINE)}) } else { json!({}) };
    let body = question(json!({"budget": BUDGET, "stream": stream, "limits": limits}));
    let mut client = Connection::open(daemon.address).await;
    let asked = Instant::now();
    client.post("/v1/chat/completions", "asked", &body).await;
    called.wait_until_in_flight(BUDGET).await;
    let ended = match end {
        End::Disconnect => {
            drop(client);
            Instant::now()
        }
        End::Decided => {
            called.open_gate(&gate);
            client.read_until(b"boxed{42}").await;
            Instant::now()
        }
        End::Deadline => asked + DEADLINE,
        End::Endpoint => {
            let mut other = Connection::open(daemon.address).await;
            let now = Instant::now();
            other.post("/v1/chat/cancel/asked", "cancels", &json!({})).await;
            now
        }
        End::Shutdown => {
            // The first signal lets running requests finish.
            daemon.terminate();
            daemon.wait_for_log("stopping").await;
            let now = Instant::now();
            daemon.terminate();
            now
        }
    };
    called.wait_until_in_flight(0).await;
    let elapsed = ended.elapsed();
    let closed_early = called.requests_and_closed_early().1 - closed_before;
    let expected = if is_decided { BUDGET - MAJORITY } else { BUDGET };
    assert_eq!(closed_early, expected, "the calls that still ran were cancelled");
    elapsed
}

impl Called {
    fn provider(&self) -> Value {
        match self {
            Self::Scripted(upstream) => scripted(upstream),
            Self::Bedrock(stub) => bedrock(stub),
        }
    }

    /// Answers the requests of these numbers once the gate is open, and no others.
    fn answer(&self, answered: Range<u64>, gate: &str) {
        const ANSWER: &str = "The answer is \\boxed{42}.";
        let gate = gate.to_owned();
        match self {
            Self::Scripted(server) => server.answer_with(move |seen| match answered.contains(&seen.number) {
                true => upstream::Step::content(ANSWER).gated(&gate),
                false => upstream::Step::hang_at(upstream::Point::Request),
            }),
            Self::Bedrock(stub) => stub.answer_with(move |seen| match answered.contains(&seen.number) {
                true => bedrock_stub::Step::text(ANSWER).gated(&gate),
                false => bedrock_stub::Step::hang_at(bedrock_stub::Point::Request),
            }),
        }
    }

    fn open_gate(&self, gate: &str) {
        match self {
            Self::Scripted(upstream) => upstream.open_gate(gate),
            Self::Bedrock(stub) => stub.open_gate(gate),
        }
    }

    fn requests_and_closed_early(&self) -> (u64, u64) {
        match self {
            Self::Scripted(upstream) => (upstream.counters().requests, upstream.counters().closed_early),
            Self::Bedrock(stub) => (stub.counters().requests, stub.counters().closed_early),
        }
    }

    async fn wait_until_in_flight(&self, count: u64) {
        match self {
            Self::Scripted(upstream) => drop(upstream.wait_for(|counters| counters.in_flight == count).await),
            Self::Bedrock(stub) => drop(stub.wait_for(|counters| counters.in_flight == count).await),
        }
    }
}
