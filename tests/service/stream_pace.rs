//! A live stream is passed on at the pace of the upstream: each chunk as it comes, neither held back for the next nor
//! joined with it.

use serde_json::{Value, json};

use crate::app::{events, question, spawn_app};
use crate::hand_fed::{Client, HandFed};

const CHAT: &str = "/v1/chat/completions";

/// The contents of the deltas of a body, in order, without the one that only says who speaks.
fn contents(body: &[u8]) -> Vec<String> {
    let told = events(std::str::from_utf8(body).unwrap().trim_end_matches("data: [DONE]\n\n"));
    let content = |event: &Value| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
    told.iter().filter_map(content).filter(|content| !content.is_empty()).collect()
}

#[tokio::test]
async fn every_chunk_is_there_before_the_next_is_made() {
    let upstream = HandFed::start().await;
    let app = spawn_app().await;
    app.post("/configure", &upstream.document()).await.ok();
    let mut client = Client::ask(&app, CHAT, "live", &question(json!({"stream": true}))).await;
    let mut call = upstream.call().await;
    let words: Vec<String> = (0..50).map(|number| format!("word {number}, ")).collect();
    for word in &words {
        let event = call.event(word, None);
        call.write(event.as_bytes()).await.unwrap();
        client.read_until(word).await;
    }
    call.write((call.event("", Some("stop")) + "data: [DONE]\n\n").as_bytes()).await.unwrap();
    drop(call);
    let (_, chunks) = client.read_rest().await;
    assert_eq!(contents(&chunks.concat()), words);
}

#[tokio::test]
async fn a_chunk_is_there_while_only_a_part_of_the_next_has_come() {
    let upstream = HandFed::start().await;
    let app = spawn_app().await;
    app.post("/configure", &upstream.document()).await.ok();
    let mut client = Client::ask(&app, CHAT, "live", &question(json!({"stream": true}))).await;
    let mut call = upstream.call().await;
    let (one, two) = (call.event("one", None), call.event("two", None));
    let (begin, end) = two.split_at(two.len() / 2);
    call.write((one + begin).as_bytes()).await.unwrap();
    client.read_until("one").await;
    call.write(end.as_bytes()).await.unwrap();
    client.read_until("two").await;
    call.write((call.event("", Some("stop")) + "data: [DONE]\n\n").as_bytes()).await.unwrap();
    drop(call);
    assert_eq!(contents(&client.read_rest().await.1.concat()), ["one", "two"]);
}

#[tokio::test]
async fn chunks_that_come_together_stay_apart() {
    let upstream = HandFed::start().await;
    let app = spawn_app().await;
    app.post("/configure", &upstream.document()).await.ok();
    let client = Client::ask(&app, CHAT, "live", &question(json!({"stream": true}))).await;
    let mut call = upstream.call().await;
    let words: Vec<String> = (0..200).map(|number| format!("{number} ")).collect();
    let all: String = words.iter().map(|word| call.event(word, None)).collect();
    call.write((all + &call.event("", Some("stop")) + "data: [DONE]\n\n").as_bytes()).await.unwrap();
    drop(call);
    let (head, chunks) = client.read_rest().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(contents(&chunks.concat()), words);
}
