//! How many calls there are at once, and that a dropped call is gone upstream too.

use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use itsd::completion::StepEvent;
use itsd::generator::{self, Delivery, Phase, Run, Until};

use crate::provider::{complete, prompt, provider};
use crate::upstream::{Point, Step, Upstream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_flight_stay_within_n_parallel() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("42").gated("go"));
    let provider = provider(&upstream, |spec| spec.calls.n_parallel = 3);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let provider = Arc::clone(&provider);
            tokio::spawn(async move { complete(&provider).await })
        })
        .collect();
    upstream.wait_for(|counters| counters.in_flight == 3).await;
    upstream.open_gate("go");
    for call in join_all(calls).await {
        assert_eq!(call.unwrap().unwrap().reply.content(), Some("42"));
    }
    let counters = upstream.counters();
    assert_eq!((counters.requests, counters.peak_in_flight), (20, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_are_answered_each_with_its_own_answer_over_few_connections() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|seen| Step::content(&format!("seed {}", seen.json()["seed"])));
    let provider = provider(&upstream, |spec| spec.calls.n_parallel = 16);
    let request = provider.prepare(&prompt());
    let calls = (0..400i64).map(|seed| {
        let (provider, request) = (Arc::clone(&provider), request.clone());
        tokio::spawn(async move { (seed, provider.complete(&request, Some(seed), |_| ()).await) })
    });
    for call in join_all(calls).await {
        let (seed, completion) = call.unwrap();
        assert_eq!(completion.unwrap().reply.content(), Some(format!("seed {seed}").as_str()));
    }
    let counters = upstream.counters();
    assert_eq!((counters.requests, counters.closed_early), (400, 0));
    assert!(counters.connections < 100, "connections are not kept alive: {counters:?}");
}

#[tokio::test]
async fn a_run_of_many_and_a_run_of_one_take_turns() {
    for delivery in [Delivery::Whole, Delivery::Live] {
        let upstream = Upstream::start().await;
        upstream.answer_with(|_| Step::content("42").gated("go"));
        let generator = generator::remote(provider(&upstream, |spec| spec.calls.n_parallel = 2));
        let begin = async |count, seed| {
            let run = Arc::new(Run::new(Some(seed)));
            generator
                .extend(generator::open(&Arc::new(prompt()), 0..count, Phase::Generate, &run), Until::End, delivery)
                .await
        };
        let mut many = begin(50, 1).await;
        tokio::select! {
            _ = many.next() => panic!("the gate is closed"),
            _ = upstream.wait_for(|counters| counters.in_flight == 2) => {}
        }
        // It is in line once it has been asked for its answer.
        let mut one = begin(1, 2).await;
        assert!(one.next().now_or_never().is_none());
        upstream.open_gate("go");
        tokio::join!(many.by_ref().count(), one.by_ref().count());

        let seen = upstream.seen();
        let turn = seen.iter().position(|seen| seen.json()["seed"] == 2).unwrap();
        // Behind the two that were in flight and the one that was in line; it may be overtaken on the way.
        assert!((2..6).contains(&turn), "{turn} of {}", seen.len());
        assert_eq!((seen.len(), upstream.counters().peak_in_flight), (51, 2));
    }
}

#[tokio::test]
async fn a_call_that_waits_for_its_turn_when_it_is_cancelled_is_never_made() {
    for delivery in [Delivery::Whole, Delivery::Live] {
        let upstream = Upstream::start().await;
        upstream.answer_with(|_| Step::content("42").gated("go"));
        let provider = provider(&upstream, |spec| spec.calls.n_parallel = 1);
        let generator = generator::remote(Arc::clone(&provider));
        let first = tokio::spawn({
            let provider = Arc::clone(&provider);
            async move { complete(&provider).await }
        });
        upstream.wait_for(|counters| counters.in_flight == 1).await;
        let run = Arc::new(Run::new(Some(1)));
        let paths = generator::open(&Arc::new(prompt()), 0..1, Phase::Generate, &run);
        let mut queued = generator.extend(paths, Until::End, delivery).await;
        assert!(queued.next().now_or_never().is_none());
        queued.cancel().await;
        upstream.open_gate("go");
        first.await.unwrap().unwrap();
        complete(&provider).await.unwrap();
        assert_eq!(upstream.counters().requests, 2);
    }
}

#[tokio::test]
async fn a_call_waits_for_its_retry_without_holding_a_place() {
    let upstream = Upstream::start().await;
    upstream.push(Step::status(429, "").header("retry-after", "50"));
    let provider = provider(&upstream, |spec| (spec.calls.n_parallel, spec.calls.max_retries) = (1, 1));
    let waiting = tokio::spawn({
        let provider = Arc::clone(&provider);
        async move { complete(&provider).await }
    });
    upstream.wait_for(|counters| counters.requests == 1 && counters.in_flight == 0).await;
    assert!(complete(&provider).await.is_ok());
    assert!(!waiting.is_finished());
    waiting.abort();
}

#[tokio::test]
async fn dropping_a_call_closes_its_connection_wherever_it_stands() {
    for step in [
        Step::default().gated("never"),
        Step::hang_at(Point::Request),
        Step::hang_at(Point::Head),
        Step::hang_at(Point::Body),
    ] {
        let upstream = Upstream::start().await;
        upstream.push(step);
        let provider = provider(&upstream, |_| {});
        let call = tokio::spawn(async move { complete(&provider).await });
        upstream.wait_for(|counters| counters.in_flight == 1).await;
        call.abort();
        let counters = upstream.wait_for(|counters| counters.in_flight == 0).await;
        assert_eq!(counters.closed_early, 1);
    }
}

#[tokio::test]
async fn dropping_a_stream_closes_its_connection_and_frees_its_place() {
    let upstream = Upstream::start().await;
    upstream.push(Step { stream_gate: Some("never".to_owned()), ..Step::content("one two three") });
    let provider = provider(&upstream, |spec| spec.calls.n_parallel = 1);
    let mut events = Box::pin(provider.stream(provider.prepare(&prompt()), None, |_| ()));
    assert!(matches!(events.next().await, Some(StepEvent::Delta(_))));
    drop(events);
    let counters = upstream.wait_for(|counters| counters.in_flight == 0).await;
    assert_eq!(counters.closed_early, 1);
    assert!(complete(&provider).await.is_ok());
}

#[tokio::test]
async fn a_stream_that_was_read_to_its_end_leaves_its_connection_to_the_next() {
    let upstream = Upstream::start().await;
    let provider = provider(&upstream, |_| {});
    for _ in 0..5 {
        let events = Box::pin(provider.stream(provider.prepare(&prompt()), None, |_| ()));
        let last = events.filter(|event| std::future::ready(!matches!(event, StepEvent::Delta(_)))).next().await;
        assert!(matches!(last, Some(StepEvent::Finished(_))));
    }
    assert_eq!(upstream.counters().connections, 1);
}

#[tokio::test]
async fn a_reset_upstream_does_not_count_what_began_before() {
    let upstream = Upstream::start().await;
    upstream.push(Step::hang_at(Point::Request));
    let provider = provider(&upstream, |_| {});
    let before = tokio::spawn({
        let provider = Arc::clone(&provider);
        async move { complete(&provider).await }
    });
    upstream.wait_for(|counters| counters.in_flight == 1).await;
    let control = format!("http://{}/control", upstream.address());
    crate::app::client().post(control).body(r#"{"reset":true}"#).send().await.unwrap();
    before.abort();
    assert!(before.await.unwrap_err().is_cancelled());
    for _ in 0..3 {
        complete(&provider).await.unwrap();
    }
    let counters = upstream.wait_for(|counters| counters.in_flight == 0).await;
    assert_eq!((counters.requests, counters.peak_in_flight, counters.closed_early), (3, 1, 0));
}
