//! Changing the configuration while requests run: none fails, and none sees two revisions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::app::{TestApp, document, question, receive, spawn_app};
use crate::upstream::{Step, Upstream};

const CLIENTS: usize = 6;
const SWAPS: usize = 40;

/// A configuration under which the public name leads to `upstream` as `model`.
fn configuration(upstream: &Upstream, model: &str) -> Value {
    let fields = json!({
        "model": "public", "model_mapping": {"public": model}, "api_key": format!("key-of-{model}"), "budget": 4,
        "stop_rule": "none"
    });
    document(upstream, fields)
}

/// An upstream that answers with the model it was asked for and its own name.
async fn telling_upstream(name: &'static str) -> Upstream {
    let upstream = Upstream::start().await;
    upstream.answer_with(move |seen| {
        let model = seen.json()["model"].as_str().unwrap().to_owned();
        let key = seen.request.header("authorization").unwrap_or_default().to_owned();
        Step::content(&format!("{name} asked as {model} with {key}"))
    });
    upstream
}

/// What every candidate of a response says, which must be one and the same, and its revision.
fn one_voice(answer: &crate::app::Answer) -> (i64, String) {
    let body = answer.ok();
    let voices: Vec<_> =
        body["metadata"]["responses"].as_array().unwrap().iter().map(|r| r["content"].clone()).collect();
    assert_eq!(voices.len(), 4, "{body}");
    assert!(voices.iter().all(|voice| *voice == voices[0]), "candidates of two configurations: {body}");
    assert_eq!(body["choices"][0]["message"]["content"], voices[0]);
    assert_eq!(body["model"], "public");
    let revision: i64 = answer.header("x-its-revision").unwrap().parse().unwrap();
    assert_eq!(body["metadata"]["revision"], revision);
    (revision, voices[0].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beside_a_changing_configuration_see_one_revision_each_and_none_fails() {
    let upstreams = [telling_upstream("east").await, telling_upstream("west").await];
    let documents = [configuration(&upstreams[0], "model-e"), configuration(&upstreams[1], "model-w")];
    let voices =
        ["east asked as model-e with Bearer key-of-model-e", "west asked as model-w with Bearer key-of-model-w"];
    let app = Arc::new(spawn_app().await);
    let mut expected = BTreeMap::from([(configure(&app, &documents[0]).await, voices[0])]);

    let over = Arc::new(AtomicBool::new(false));
    let begun = Arc::new(Barrier::new(CLIENTS + 1));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (app, over, begun) = (Arc::clone(&app), Arc::clone(&over), Arc::clone(&begun));
            tokio::spawn(async move {
                let mut heard = Vec::new();
                begun.wait().await;
                while !over.load(Ordering::Relaxed) {
                    let fields = json!({"model": "public", "return_response_only": false, "user": format!("{client}")});
                    heard.push(one_voice(&app.chat(fields).await));
                }
                heard
            })
        })
        .collect();
    begun.wait().await;
    for swap in 1..=SWAPS {
        let revision = configure(&app, &documents[swap % 2]).await;
        let newest = *expected.last_key_value().unwrap().0;
        assert!(revision > newest, "revision {revision} came after {newest}");
        expected.insert(revision, voices[swap % 2]);
        // What was configured is what the next request gets, even now.
        let (seen, _) = one_voice(&app.chat(json!({"model": "public", "return_response_only": false})).await);
        assert_eq!(seen, revision);
    }
    over.store(true, Ordering::Relaxed);

    let mut revisions_heard = std::collections::BTreeSet::new();
    for client in clients {
        let heard = client.await.unwrap();
        assert!(heard.is_sorted_by_key(|(revision, _)| *revision), "a client went back to an older revision");
        for (revision, voice) in heard {
            assert_eq!(voice, expected[&revision], "revision {revision}");
            revisions_heard.insert(revision);
        }
    }
    assert!(revisions_heard.len() > 1, "no request ran beside a change");
}

#[tokio::test]
async fn a_request_that_runs_keeps_its_configuration_to_the_end() {
    let (old, new) = (telling_upstream("east").await, telling_upstream("west").await);
    let app = spawn_app().await;
    let first = configure(&app, &configuration(&old, "model-e")).await;
    for _ in 0..4 {
        old.push(Step::content("east, at last").gated("answer"));
    }
    let running = app.chat_in_background(json!({"model": "public", "return_response_only": false}));
    old.wait_for(|counters| counters.in_flight == 4).await;
    let second = configure(&app, &configuration(&new, "model-w")).await;
    let (revision, voice) = one_voice(&app.chat(json!({"model": "public", "return_response_only": false})).await);
    assert_eq!((revision, voice.starts_with("west")), (second, true));
    old.open_gate("answer");
    assert_eq!(one_voice(&running.await.unwrap()), (first, "east, at last".to_owned()));
}

#[tokio::test]
async fn calls_that_wait_for_their_turn_belong_to_the_configuration_that_they_began_under() {
    let (old, new) = (telling_upstream("east").await, telling_upstream("west").await);
    let app = spawn_app().await;
    let mut narrow = configuration(&old, "model-e");
    narrow["n_parallel"] = json!(1);
    let first = configure(&app, &narrow).await;
    old.push(Step::content("east asked as model-e with Bearer key-of-model-e").gated("answer"));
    let running = app.chat_in_background(json!({"model": "public", "return_response_only": false}));
    old.wait_for(|counters| counters.in_flight == 1).await;
    configure(&app, &configuration(&new, "model-w")).await;
    old.open_gate("answer");
    assert_eq!(one_voice(&running.await.unwrap()).0, first);
    assert_eq!((old.counters().requests, new.counters().requests), (4, 0));
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_vote_of_the_embedded_model_outlives_its_configuration() {
    let upstream = telling_upstream("west").await;
    let app = spawn_app().await;
    let messages = json!([{"role": "user", "content": "What is 23 + 48 - 17 + 66?"}]);
    let sum = json!({"model": "arithmetic-demo", "messages": messages, "budget": 12, "stop_rule": "none"});
    let running: Vec<_> = (0..4).map(|_| app.chat_in_background(sum.clone())).collect();
    for _ in 0..3 {
        configure(&app, &configuration(&upstream, "model-w")).await;
        configure(&app, &json!({"provider": "llama", "model": "arithmetic-demo"})).await;
    }
    for chat in running {
        let answer = chat.await.unwrap();
        assert_eq!((answer.status, answer.header("x-its-candidates")), (200, Some("12")), "{}", answer.text);
    }
    assert_eq!(upstream.counters().requests, 0);
}

#[tokio::test]
async fn many_changes_at_once_are_all_made_and_the_highest_revision_stays() {
    let upstream = telling_upstream("east").await;
    let app = spawn_app().await;
    let changes = (0..16).map(|at| {
        let body = document(&upstream, json!({"model": format!("m{at}")})).to_string();
        receive(app.json_request("/configure", &body))
    });
    let answers = futures_util::future::join_all(changes).await;
    let mut revisions: Vec<(i64, usize)> =
        answers.iter().enumerate().map(|(at, answer)| (answer.ok()["revision"].as_i64().unwrap(), at)).collect();
    revisions.sort_unstable();
    assert!(revisions.windows(2).all(|pair| pair[0].0 < pair[1].0), "{revisions:?}");
    let (highest, at) = revisions[15];
    let active = app.get("/configure").await.ok();
    assert_eq!((&active["revision"], &active["model"]), (&json!(highest), &json!(format!("m{at}"))));
    let answer = app.chat(question(json!({"model": format!("m{at}"), "budget": 1}))).await;
    assert_eq!(answer.content(), format!("east asked as m{at} with "));
}

async fn configure(app: &TestApp, document: &Value) -> i64 {
    let answer = app.post("/configure", document).await;
    answer.ok()["revision"].as_i64().unwrap()
}
