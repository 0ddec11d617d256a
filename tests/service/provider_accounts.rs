//! What a run's ledger says of its calls: every attempt that may have cost something is in it, and no other.

use std::sync::Arc;

use futures_util::StreamExt;
use itsd::completion::StepEvent;
use itsd::generator::{self, Account, Delivery, Extension, Phase, Run, Until};
use itsd::providers::ProviderSpec;
use itsd::providers::openai::Provider;
use serde_json::json;

use crate::provider::{prompt, provider};
use crate::upstream::{Point, Step, Upstream};

async fn extend(provider: &Arc<Provider>, run: &Arc<Run>, count: usize, delivery: Delivery) -> Box<dyn Extension> {
    let paths = generator::open(&Arc::new(prompt()), 0..count, Phase::Generate, run);
    generator::remote(Arc::clone(provider)).extend(paths, Until::End, delivery).await
}

/// The account of a run of `count` candidates, at its end.
async fn account_of(
    upstream: &Upstream,
    count: usize,
    delivery: Delivery,
    change: impl FnOnce(&mut ProviderSpec),
) -> Account {
    let run = Arc::new(Run::new(None));
    let ends = extend(&provider(upstream, change), &run, count, delivery)
        .await
        .filter(|(_, event)| std::future::ready(!matches!(event, StepEvent::Delta(_))))
        .count()
        .await;
    assert_eq!(ends, count);
    run.ledger.by_phase()[&Phase::Generate]
}

#[tokio::test]
async fn an_attempt_that_broke_off_is_a_call_of_unknown_usage_and_a_refused_one_is_free() {
    for delivery in [Delivery::Whole, Delivery::Live] {
        let upstream = Upstream::start().await;
        upstream.push(Step::status(503, "").header("retry-after-ms", "1"));
        upstream.push(Step::body(r#"{"error":{"message":"slow down","code":429}}"#));
        upstream.push(Step::close_at(Point::Head));
        upstream.push(Step { usage: Some(json!({"prompt_tokens": 9, "completion_tokens": 2})), ..Step::content("42") });
        let account = account_of(&upstream, 1, delivery, |spec| spec.calls.max_retries = 3).await;
        assert_eq!(upstream.counters().requests, 4);
        assert_eq!((account.calls, account.usage.unknown_calls), (1, 1), "{delivery:?}");
        assert_eq!((account.usage.prompt_tokens, account.usage.completion_tokens), (9, 2), "{delivery:?}");
    }
}

#[tokio::test]
async fn every_answer_that_cannot_be_read_is_a_call_of_unknown_usage() {
    for delivery in [Delivery::Whole, Delivery::Live] {
        let upstream = Upstream::start().await;
        upstream.answer_with(|_| Step::body(r#"{"choices":[{"message":{"content":"4"#));
        let account = account_of(&upstream, 1, delivery, |spec| spec.calls.max_retries = 1).await;
        assert_eq!((account.calls, account.usage.unknown_calls), (1, 2), "{delivery:?}");
    }
}

#[tokio::test]
async fn an_error_beside_or_after_the_models_words_is_a_call_of_unknown_usage() {
    let error = json!({"message": "the model crashed", "code": 503});
    let upstream = Upstream::start().await;
    upstream.push(Step::body(
        &json!({"choices": [{"message": {"content": "4"}, "finish_reason": "error"}], "error": error}).to_string(),
    ));
    assert_eq!(account_of(&upstream, 1, Delivery::Whole, |_| {}).await.usage.unknown_calls, 1);
    upstream.push(Step { error: Some(error), ..Step::content("one two three") });
    assert_eq!(account_of(&upstream, 1, Delivery::Live, |_| {}).await.usage.unknown_calls, 1);
}

#[tokio::test]
async fn candidates_that_are_all_refused_cost_nothing() {
    for delivery in [Delivery::Whole, Delivery::Live] {
        let upstream = Upstream::start().await;
        upstream.answer_with(|_| Step::status(401, ""));
        let account = account_of(&upstream, 3, delivery, |_| {}).await;
        assert_eq!((account.calls, account.usage.unknown_calls), (3, 0), "{delivery:?}");
    }
}

#[tokio::test]
async fn a_candidate_whose_turn_never_came_is_no_call() {
    for delivery in [Delivery::Whole, Delivery::Live] {
        let upstream = Upstream::start().await;
        upstream.answer_with(|_| Step::hang_at(Point::Request));
        let run = Arc::new(Run::new(None));
        let provider = provider(&upstream, |spec| spec.calls.n_parallel = 1);
        let mut extension = extend(&provider, &run, 3, delivery).await;
        tokio::select! {
            _ = extension.next() => panic!("nothing was answered"),
            _ = upstream.wait_for(|counters| counters.in_flight == 1) => {}
        }
        extension.cancel().await;
        let account = run.ledger.by_phase()[&Phase::Generate];
        assert_eq!((account.calls, account.usage.unknown_calls), (1, 1), "{delivery:?}");
    }
}
