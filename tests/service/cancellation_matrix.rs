//! Every cause that ends a request, against everything that its calls may be doing: each time every call is closed,
//! none is made later, the run is gone, and its places are free for others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::app::{Answer, TestApp, events, question, receive, spawn_app_for, spawn_app_with};
use crate::log_watch::{lines_of, watch_log};
use crate::upstream::{Point, Seen, Step, Upstream};

/// What ends the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Disconnect,
    Endpoint,
    Deadline,
    Shutdown,
}

/// What its calls are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Each waits for its answer.
    InFlight,
    /// Each waits for its turn, which another request has.
    Queued,
    /// Each was refused, and waits to try again.
    Pausing,
    /// The candidates are here, and the judge, who has scored one of them, is asked about the others.
    Judging,
}

/// One request that is ended.
#[derive(Debug, Clone, Copy)]
struct Case {
    cause: Cause,
    doing: Doing,
    budget: u64,
    stream: bool,
}

/// Longer than any test, and no longer than the daemon waits.
const LONG_PAUSE_S: &str = "60";
/// The deadline of the requests that are ended by theirs.
const DEADLINE_MS: u64 = 2000;

async fn check(cause: Cause, doing: Doing) {
    let budgets: &[u64] = if doing == Doing::Judging { &[8] } else { &[1, 8] };
    let cases = budgets.iter().flat_map(|&budget| [false, true].map(|stream| Case { cause, doing, budget, stream }));
    join_all(cases.map(Case::check)).await;
}

impl Case {
    async fn check(self) {
        let mut log = watch_log();
        let Self { cause, doing, budget, stream } = self;
        let upstream = Upstream::start().await;
        let is_healed = Arc::new(AtomicBool::new(false));
        upstream.answer_with({
            let is_healed = Arc::clone(&is_healed);
            move |seen| match is_healed.load(Ordering::SeqCst) {
                true => Step::content("\\boxed{42}").gated("healed"),
                false => self.step(seen),
            }
        });
        let app = self.app(&upstream).await;
        let occupant = (doing == Doing::Queued).then(|| app.chat_in_background(json!({"budget": 1})));
        let occupied = u64::from(occupant.is_some());
        upstream.wait_for(|counters| counters.in_flight == occupied).await;

        let id = format!("{cause:?}-{doing:?}-{budget}-{stream}");
        let victim = self.ask(&app, &id);
        // Requests in all and those among them that are not answered, when it is ended.
        let (asked, open) = match doing {
            Doing::InFlight => (budget, budget),
            Doing::Queued => (1, 1),
            Doing::Pausing => (budget, 0),
            Doing::Judging => (2 * budget, budget - 1),
        };
        if doing == Doing::Queued {
            app.somebody_queues().await;
        }
        upstream.wait_for(|counters| counters.requests == asked && counters.in_flight == open).await;

        let mut drain = None;
        match cause {
            Cause::Disconnect => victim.abort(),
            Cause::Endpoint => assert_eq!(cancel(&app, &id).await.ok()["requests"], 1),
            Cause::Deadline => {}
            Cause::Shutdown => drain = Some(app.drain_in_background()),
        }
        match (cause, victim.await) {
            (Cause::Disconnect, told) => assert!(told.unwrap_err().is_cancelled()),
            (_, told) => self.check_what_is_told(&told.unwrap()),
        }
        let left_open = if cause == Cause::Shutdown { 0 } else { occupied };
        let counters = upstream.wait_for(|counters| counters.in_flight == left_open).await;
        assert_eq!((counters.requests, counters.closed_early), (asked, open - left_open), "{self:?}");
        // The line is written when nothing holds the request any more: neither its run nor its response.
        assert_eq!(lines_of(&mut log, &id).await.len(), 1);
        if let Some(drain) = drain {
            // The daemon's own end tells that no task is left.
            return drain.await.unwrap();
        }
        cancel(&app, &id).await.error(404);

        // Whatever it held is there for others, and nothing of it comes later.
        drop(occupant.map(AbortOnDropHandle::new));
        upstream.wait_for(|counters| counters.in_flight == 0).await;
        is_healed.store(true, Ordering::SeqCst);
        let places = self.places();
        let next = app.chat_in_background(json!({"alg": "self-consistency", "budget": places, "stop_rule": "none"}));
        upstream.wait_for(|counters| counters.in_flight == places).await;
        upstream.open_gate("healed");
        assert_eq!(next.await.unwrap().header("x-its-candidates"), Some(&*places.to_string()), "{self:?}");
        assert_eq!(upstream.counters().requests, asked + places, "{self:?}");
    }

    fn step(self, seen: &Seen) -> Step {
        match self.doing {
            Doing::Pausing => Step::status(503, "{}").header("retry-after", LONG_PAUSE_S),
            // What is asked after the candidates are in is asked of the judge.
            Doing::Judging if seen.number < self.budget => Step::content(&format!("answer {}", seen.number)),
            Doing::Judging if seen.number == self.budget => Step::content(r#"{"reasoning": "r", "score": 5}"#),
            Doing::InFlight | Doing::Queued | Doing::Judging => Step::hang_at(Point::Request),
        }
    }

    /// Calls that may be made at a time.
    fn places(self) -> u64 {
        if self.doing == Doing::Queued { 1 } else { 8 }
    }

    async fn app(self, upstream: &Upstream) -> TestApp {
        let app = spawn_app_with(|settings| {
            // A stream begins before there is an answer, and is told of its end in an event.
            settings.server.stream_keep_alive = std::time::Duration::from_millis(5);
            if self.cause == Cause::Shutdown {
                settings.server.shutdown_timeout_s = 0;
            }
        })
        .await;
        let mut fields = json!({
            "budget": self.budget, "n_parallel": self.places(), "use_n": "never",
            "max_retries": 3, "retry_budget": 20, "breaker": {"enabled": false}
        });
        if self.doing == Doing::Judging {
            let judged = json!({"alg": "best-of-n", "rm_name": "llm-judge", "judge_mode": "pointwise"});
            fields.as_object_mut().unwrap().extend(judged.as_object().unwrap().clone());
        }
        app.configure(upstream, fields).await;
        app
    }

    fn ask(self, app: &TestApp, id: &str) -> JoinHandle<Answer> {
        let mut fields = json!({"stream": self.stream});
        if self.cause == Cause::Deadline {
            fields["limits"] = json!({"deadline_ms": DEADLINE_MS});
        }
        let request = app.json_request("/v1/chat/completions", &question(fields).to_string());
        tokio::spawn(receive(request.header("x-request-id", id)))
    }

    fn check_what_is_told(self, answer: &Answer) {
        let (status, word) = match self.cause {
            Cause::Disconnect => unreachable!("nobody is there to be told"),
            Cause::Endpoint => (499, json!("request_cancelled")),
            // There is no waiting for what would come too late.
            Cause::Deadline if self.doing == Doing::Pausing => (502, json!("upstream_unavailable")),
            Cause::Deadline => (504, json!("deadline_exceeded")),
            Cause::Shutdown => (503, Value::Null),
        };
        // Candidates that are here are worth more than no answer.
        if (self.cause, self.doing) == (Cause::Deadline, Doing::Judging) {
            assert_eq!(answer.status, 200, "{self:?}: {}", answer.text);
            assert!(answer.text.contains("answer "), "{self:?}: {}", answer.text);
            return;
        }
        // It may end before its stream has begun.
        if answer.header("content-type") == Some("application/json") {
            assert_eq!(answer.error(status)["code"], word, "{self:?}");
            return;
        }
        assert!(self.stream, "{self:?}: {}", answer.text);
        assert_eq!(answer.status, 200, "{self:?}: {}", answer.text);
        assert!(!answer.text.contains("[DONE]"), "{self:?}: {}", answer.text);
        let told = events(&answer.text);
        let [last] = told.as_slice() else { panic!("{self:?}: one event and not {told:?}") };
        assert_eq!(last["error"]["code"], word, "{self:?}");
    }
}

async fn cancel(app: &TestApp, id: &str) -> Answer {
    receive(app.client.post(app.url(&format!("/v1/chat/cancel/{id}")))).await
}

macro_rules! causes {
    ($($name:ident: $cause:ident, $doing:ident;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                check(Cause::$cause, Doing::$doing).await;
            }
        )*
    };
}

causes! {
    a_client_that_leaves_ends_calls_in_flight: Disconnect, InFlight;
    a_client_that_leaves_takes_its_calls_out_of_the_queue: Disconnect, Queued;
    a_client_that_leaves_ends_calls_that_would_be_tried_again: Disconnect, Pausing;
    a_client_that_leaves_ends_the_judgement: Disconnect, Judging;
    a_cancel_request_ends_calls_in_flight: Endpoint, InFlight;
    a_cancel_request_takes_calls_out_of_the_queue: Endpoint, Queued;
    a_cancel_request_ends_calls_that_would_be_tried_again: Endpoint, Pausing;
    a_cancel_request_ends_the_judgement: Endpoint, Judging;
    a_deadline_ends_calls_in_flight: Deadline, InFlight;
    a_deadline_takes_calls_out_of_the_queue: Deadline, Queued;
    a_deadline_ends_calls_that_would_be_tried_again: Deadline, Pausing;
    a_deadline_ends_the_judgement: Deadline, Judging;
    a_stop_ends_calls_in_flight: Shutdown, InFlight;
    a_stop_takes_calls_out_of_the_queue: Shutdown, Queued;
    a_stop_ends_calls_that_would_be_tried_again: Shutdown, Pausing;
    a_stop_ends_the_judgement: Shutdown, Judging;
}

/// A vote of nine, of which `places` are asked at a time: five agree, and `other` is what the others meet. Returns the
/// answer's metadata, and the upstream when everything has ended.
async fn decided(stream: bool, places: u64, other: Step) -> (Value, Upstream) {
    let upstream = Upstream::start().await;
    let refused = if other.status.is_some() { places - 5 } else { 0 };
    upstream.answer_with(move |seen| match seen.number {
        ..5 => Step::content("\\boxed{42}").gated("agreed"),
        _ => other.clone(),
    });
    let fields = json!({
        "budget": 9, "n_parallel": places, "use_n": "never", "max_retries": 3, "retry_budget": 20
    });
    let app = spawn_app_for(&upstream, fields).await;
    let chat = app.chat_in_background(json!({"stream": stream, "return_response_only": false}));
    upstream.wait_for(|counters| counters.requests == places && counters.in_flight == places - refused).await;
    // The refusals have been read too.
    app.wait_for_providers(|providers| providers[0]["in_flight"] == places - refused).await;
    upstream.open_gate("agreed");
    let answer = chat.await.unwrap();
    let metadata = match stream {
        false => answer.ok()["metadata"].clone(),
        true => answer.events().last().unwrap()["metadata"].clone(),
    };
    let stop = &metadata["stop"];
    assert_eq!((&stop["reason"], &stop["planned"], &stop["completed"]), (&json!("decided"), &json!(9), &json!(5)));
    upstream.wait_for(|counters| counters.in_flight == 0).await;
    (metadata, upstream)
}

#[tokio::test]
async fn a_decided_vote_ends_calls_in_flight() {
    for stream in [false, true] {
        let (metadata, upstream) = decided(stream, 9, Step::hang_at(Point::Request)).await;
        let (counters, spent) = (upstream.counters(), &metadata["usage_by_phase"]["generate"]);
        assert_eq!((counters.requests, counters.closed_early), (9, 4));
        assert_eq!((&spent["calls"], &spent["unknown_calls"]), (&json!(9), &json!(4)), "{spent}");
        assert_eq!((&metadata["stop"]["started"], &metadata["stop"]["cancelled"]), (&json!(9), &json!(4)));
    }
}

#[tokio::test]
async fn a_decided_vote_makes_no_call_any_more_that_waits_for_its_turn() {
    for stream in [false, true] {
        let (metadata, upstream) = decided(stream, 5, Step::hang_at(Point::Request)).await;
        let (counters, spent) = (upstream.counters(), &metadata["usage_by_phase"]["generate"]);
        // As the five end one by one, up to four others get their places before the last is heard.
        assert!((5..=9).contains(&counters.requests), "{counters:?}");
        assert_eq!(counters.closed_early, counters.requests - 5);
        // A call has begun when it is being sent, and may be given up before it is.
        let begun = spent["calls"].as_u64().unwrap();
        assert!((counters.requests..=9).contains(&begun), "{spent} {counters:?}");
        assert_eq!(spent["unknown_calls"], begun - 5, "{spent}");
        assert_eq!(metadata["stop"]["started"], begun);
    }
}

#[tokio::test]
async fn a_decided_vote_does_not_repeat_what_was_refused_before() {
    for stream in [false, true] {
        let refused = Step::status(503, "{}").header("retry-after", LONG_PAUSE_S);
        let (metadata, upstream) = decided(stream, 9, refused).await;
        let (counters, spent) = (upstream.counters(), &metadata["usage_by_phase"]["generate"]);
        assert_eq!((counters.requests, counters.closed_early), (9, 0));
        assert_eq!((&spent["calls"], &spent["unknown_calls"]), (&json!(9), &json!(0)), "{spent}");
        assert_eq!((&spent["prompt_tokens"], &metadata["stop"]["cancelled"]), (&json!(50), &json!(4)));
    }
}
