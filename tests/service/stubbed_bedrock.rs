//! The stub of Bedrock itself, over its socket: what it lets in, how it breaks, and what it counts.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bedrock_stub::{
    BEARER_KEY, BedrockStub, Block, Control, Failure, ModelRules, Point, RetryAfter, Step, ToolUse,
};

const MODEL: &str = "anthropic.claude-sonnet-4-5-20250929-v1%3A0";

/// An answer as it came.
struct Answer {
    head: String,
    /// Without the marks of chunks.
    body: Vec<u8>,
    /// What the server sent in one chunk.
    chunks: Vec<Vec<u8>>,
    /// Whether the body came to the end that its head promised.
    is_whole: bool,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

fn hello() -> Value {
    json!({"messages": [{"role": "user", "content": [{"text": "Hello"}]}]})
}

fn request(path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {BEARER_KEY}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn send(stub: &BedrockStub, path: &str, body: &Value) -> TcpStream {
    let mut socket = TcpStream::connect(stub.address()).await.unwrap();
    socket.write_all(request(path, body).as_bytes()).await.unwrap();
    socket
}

/// Reads until the body is whole or the connection ends. `None` when nothing came.
async fn read(mut socket: TcpStream) -> Option<Answer> {
    let mut received = Vec::new();
    loop {
        if let Some(answer) = parsed(&received).filter(|answer| answer.is_whole) {
            return Some(answer);
        }
        let read = tokio::time::timeout(Duration::from_secs(30), socket.read_buf(&mut received)).await;
        if !matches!(read.expect("the stub goes on or closes"), Ok(count) if count > 0) {
            return parsed(&received);
        }
    }
}

fn parsed(received: &[u8]) -> Option<Answer> {
    let end = received.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(received[..end].to_vec()).unwrap();
    let rest = &received[end..];
    let mut answer = Answer { head, body: rest.to_vec(), chunks: Vec::new(), is_whole: false };
    if let Some(length) = answer.header("content-length") {
        answer.is_whole = rest.len() == length.parse::<usize>().unwrap();
        return Some(answer);
    }
    answer.body.clear();
    let mut rest = rest;
    while let Some(line) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        let Some(chunk) = rest.get(line + 2..line + 2 + length) else { break };
        if length == 0 {
            answer.is_whole = true;
            break;
        }
        answer.body.extend_from_slice(chunk);
        answer.chunks.push(chunk.to_vec());
        rest = rest.get(line + 4 + length..).unwrap_or_default();
    }
    Some(answer)
}

async fn ask(stub: &BedrockStub, operation: &str, body: &Value) -> Answer {
    read(send(stub, &format!("/model/{MODEL}/{operation}"), body).await).await.expect("an answer")
}

/// The messages of a stream, `Err` being what is left when a checksum is wrong or one breaks off.
fn messages(mut stream: &[u8]) -> (Vec<(String, Value)>, Option<&'static str>) {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap()) as usize;
    let mut read = Vec::new();
    while !stream.is_empty() {
        if stream.len() < 16 || stream.len() < number(&stream[..4]) {
            return (read, Some("cut"));
        }
        let (message, rest) = stream.split_at(number(&stream[..4]));
        let end = message.len() - 4;
        let sums = crc32fast::hash(&message[..8]) as usize == number(&message[8..12])
            && crc32fast::hash(&message[..end]) as usize == number(&message[end..]);
        if !sums {
            return (read, Some("checksum"));
        }
        let headers = 12 + number(&message[4..8]);
        // The first header tells what it is: its name and its value, each with its length.
        let name = usize::from(message[12]);
        let value = &message[13 + name + 1..];
        let length = usize::from(u16::from_be_bytes([value[0], value[1]]));
        let kind = String::from_utf8(value[2..2 + length].to_vec()).unwrap();
        read.push((kind, serde_json::from_slice(&message[headers..end]).unwrap_or(Value::Null)));
        stream = rest;
    }
    (read, None)
}

fn kinds(answer: &Answer) -> (Vec<String>, Option<&'static str>) {
    let (read, fault) = messages(&answer.body);
    (read.into_iter().map(|(kind, _)| kind).collect(), fault)
}

#[tokio::test]
async fn it_answers_behind_any_prefix_for_any_name_of_a_model() {
    let stub = BedrockStub::start().await;
    let arn = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.amazon.nova-lite-v1%3A0";
    for (prefix, model) in [("", MODEL), ("/some/gateway", arn)] {
        let answer = read(send(&stub, &format!("{prefix}/model/{model}/converse"), &hello()).await).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.json()["stopReason"], "end_turn");
    }
    let ids: Vec<String> = stub.requests().into_iter().map(|seen| seen.model_id).collect();
    assert_eq!(
        ids,
        [
            "anthropic.claude-sonnet-4-5-20250929-v1:0",
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0",
        ]
    );
    // Not encoded, a name with a slash is another path.
    let unencoded = "/model/arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0/converse";
    assert_eq!(read(send(&stub, unencoded, &hello()).await).await.unwrap().status(), 404);
    assert_eq!(stub.counters().requests, 2);
}

#[tokio::test]
async fn a_wrong_body_is_refused_in_the_words_of_the_service_and_takes_no_step() {
    let stub = BedrockStub::start().await;
    stub.push(Step::text("kept"));
    let mut body = hello();
    body["inferenceConfig"] = json!({"temperature": 2, "max_tokens": 5});
    let answer = ask(&stub, "converse", &body).await;
    assert_eq!(answer.status(), 400);
    let error_type = answer.header("x-amzn-errortype").unwrap();
    assert_eq!(error_type, "ValidationException:http://internal.amazon.com/coral/com.amazon.bedrock/");
    assert!(answer.header("x-amzn-requestid").is_some());
    assert_eq!(
        answer.json(),
        json!({"message": "2 validation errors detected: Value at 'inferenceConfig.temperature' failed to satisfy \
               constraint: Member must have value less than or equal to 1; extraneous key [inferenceConfig.max_tokens] \
               is not permitted"})
    );
    let roles = json!({"messages": [{"role": "assistant", "content": [{"text": "x"}]}]});
    assert_eq!(ask(&stub, "converse-stream", &roles).await.status(), 400);
    assert_eq!(ask(&stub, "converse", &json!([])).await.status(), 400);
    let kept = ask(&stub, "converse", &hello()).await.json();
    assert_eq!(kept["output"]["message"]["content"][0]["text"], "kept");
    let counters = stub.counters();
    assert_eq!((counters.requests, counters.refused, counters.answered, counters.streams), (4, 3, 4, 1));
}

#[tokio::test]
async fn rules_of_models_hold_for_those_that_they_name() {
    let stub = BedrockStub::start().await;
    let mut body = hello();
    body["messages"].as_array_mut().unwrap().push(json!({"role": "assistant", "content": [{"text": "So"}]}));
    stub.set_rules("another.model-v1:0", ModelRules { refuses_prefill: true, ..ModelRules::default() });
    assert_eq!(ask(&stub, "converse", &body).await.status(), 200);
    stub.set_rules("*", ModelRules { refuses_prefill: true, ..ModelRules::default() });
    let refused = ask(&stub, "converse", &body).await.json();
    assert!(refused["message"].as_str().unwrap().contains("does not support assistant message prefill"), "{refused}");
}

#[tokio::test]
async fn errors_have_their_status_their_name_and_when_to_come_back() {
    let stub = BedrockStub::start().await;
    for (kind, status) in [
        ("ValidationException", 400),
        ("ServiceQuotaExceededException", 400),
        ("AccessDeniedException", 403),
        ("ExpiredTokenException", 403),
        ("ResourceNotFoundException", 404),
        ("ModelTimeoutException", 408),
        ("ModelErrorException", 424),
        ("ThrottlingException", 429),
        ("ModelNotReadyException", 429),
        ("InternalServerException", 500),
        ("ServiceUnavailableException", 503),
    ] {
        stub.push(Step::error(kind));
        let answer = ask(&stub, "converse-stream", &hello()).await;
        assert_eq!(answer.status(), status, "{kind}");
        assert!(answer.header("x-amzn-errortype").unwrap().starts_with(kind));
        assert!(answer.header("retry-after").is_none());
        assert!(!answer.json()["message"].as_str().unwrap().is_empty());
    }
    stub.push(Step::error("ThrottlingException").retry_after(RetryAfter::Seconds(2)));
    assert_eq!(ask(&stub, "converse", &hello()).await.header("retry-after"), Some("2"));
    let quota = Step { status: Some(402), ..Step::error("ServiceQuotaExceededException") };
    stub.push(quota);
    assert_eq!(ask(&stub, "converse", &hello()).await.status(), 402);
    stub.push(Step::status(502, "<html>").header("content-type", "text/html"));
    let page = ask(&stub, "converse", &hello()).await;
    assert_eq!((page.status(), page.header("content-type"), &*page.body), (502, Some("text/html"), &b"<html>"[..]));
    let counters = stub.counters();
    assert_eq!((counters.throttled, counters.errors, counters.refused), (3, 3, 0));
}

#[tokio::test]
async fn a_stream_is_events_that_may_be_split_anywhere() {
    let stub = BedrockStub::start().await;
    let step = Step {
        content: vec![Block::Text("One two".to_owned()), Block::tool_use("t1", "f", json!({"a": 1}))],
        ..Step::default()
    };
    stub.push(step.clone());
    let whole = ask(&stub, "converse-stream", &hello()).await;
    assert_eq!(whole.status(), 200);
    assert_eq!(whole.header("content-type"), Some("application/vnd.amazon.eventstream"));
    let (read, fault) = messages(&whole.body);
    assert_eq!(fault, None);
    assert_eq!(whole.chunks.len(), read.len(), "each event in a chunk of its own");
    let text: String = read.iter().filter_map(|(_, payload)| payload["delta"]["text"].as_str()).collect();
    assert_eq!(text, "One two");
    let (kind, metadata) = read.last().unwrap();
    assert_eq!((kind.as_str(), &metadata["usage"]["outputTokens"]), ("metadata", &json!(4)));
    for size in [1, 7, 100] {
        stub.push(Step { split_bytes: Some(size), ..step.clone() });
        let split = ask(&stub, "converse-stream", &hello()).await;
        assert_eq!(split.body, whole.body);
        assert_eq!(split.chunks.len(), whole.body.len().div_ceil(size));
    }
}

#[tokio::test]
async fn a_stream_breaks_in_every_way() {
    let stub = BedrockStub::start().await;
    let usual =
        ["messageStart", "contentBlockDelta", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"];
    let stub = &stub;
    let of = |step: Step| async move {
        stub.push(Step { content: vec![Block::Text("One two".to_owned())], ..step });
        ask(stub, "converse-stream", &hello()).await
    };
    assert_eq!(kinds(&of(Step::default()).await), (usual.map(str::to_owned).to_vec(), None));
    let bad = of(Step { bad_checksum_at: Some(2), ..Step::default() }).await;
    assert_eq!(kinds(&bad), (usual[..2].iter().map(|kind| (*kind).to_owned()).collect(), Some("checksum")));
    let cut = of(Step { cut_at: Some(3), ..Step::default() }).await;
    assert_eq!((kinds(&cut).0.len(), kinds(&cut).1, cut.is_whole), (3, Some("cut"), true));
    let exception = Failure { original_status: Some(529), ..Failure::saying("ModelStreamErrorException", "broken") };
    let failed = of(Step { exception: Some(exception), exception_after: Some(2), ..Step::default() }).await;
    let (read, fault) = messages(&failed.body);
    assert_eq!((read.len(), fault, failed.is_whole), (3, None, true));
    assert_eq!(read[2].0, "modelStreamErrorException");
    assert_eq!((&read[2].1["message"], &read[2].1["originalStatusCode"]), (&json!("broken"), &json!(529)));
    let first = of(Step::exception_after(0, "ThrottlingException")).await;
    assert_eq!((first.status(), kinds(&first)), (200, (vec!["throttlingException".to_owned()], None)));
    let unmodelled = Failure { unmodelled: true, ..Failure::saying("InternalFailure", "lost") };
    let unmodelled = of(Step { exception: Some(unmodelled), exception_after: Some(1), ..Step::default() }).await;
    assert_eq!(kinds(&unmodelled).0, ["messageStart", "InternalFailure"]);
    let closed = of(Step::close_at(Point::Body)).await;
    assert_eq!((kinds(&closed).0.len(), closed.is_whole), (3, false));
    let own = of(Step::events([("somethingNew", json!({"a": 1})), ("messageStart", json!({}))])).await;
    assert_eq!(kinds(&own).0, ["somethingNew", "messageStart"]);
    // Input of a tool that is no JSON, as when the tokens ran out.
    let tool_use = ToolUse { name: "f".to_owned(), input_text: Some("{\"a\": ".to_owned()), ..ToolUse::default() };
    stub.push(Step { content: vec![Block::ToolUse(tool_use)], ..Step::default() }.stop_reason("max_tokens"));
    let (read, _) = messages(&ask(stub, "converse-stream", &hello()).await.body);
    let input: String = read.iter().filter_map(|(_, payload)| payload["delta"]["toolUse"]["input"].as_str()).collect();
    assert_eq!(input, "{\"a\": ");
}

#[tokio::test]
async fn connections_break_at_every_point_and_are_counted() {
    let stub = BedrockStub::start().await;
    for operation in ["converse", "converse-stream"] {
        for point in [Point::Request, Point::Head, Point::Body] {
            for step in [Step::close_at(point), Step::reset_at(point)] {
                stub.push(step);
                let answer = read(send(&stub, &format!("/model/{MODEL}/{operation}"), &hello()).await).await;
                assert!(answer.is_none_or(|answer| !answer.is_whole));
            }
        }
    }
    let counters = stub.wait_for(|counters| counters.in_flight == 0).await;
    assert_eq!((counters.truncated, counters.resets, counters.answered), (6, 6, 0));
}

#[tokio::test]
async fn who_leaves_is_counted_and_gates_hold_answers_back() {
    let stub = BedrockStub::start().await;
    stub.push(Step { stream_gate: Some("more".to_owned()), ..Step::text("One two three") });
    let mut socket = send(&stub, &format!("/model/{MODEL}/converse-stream"), &hello()).await;
    let mut received = Vec::new();
    while parsed(&received).is_none_or(|answer| answer.chunks.len() < 2) {
        assert!(socket.read_buf(&mut received).await.unwrap() > 0);
    }
    drop(socket);
    let counters = stub.wait_for(|counters| counters.closed_early == 1).await;
    assert_eq!(counters.streams_closed_early, 1);
    stub.push(Step::hang_at(Point::Head));
    let socket = send(&stub, &format!("/model/{MODEL}/converse"), &hello()).await;
    stub.wait_for(|counters| counters.hung == 1).await;
    drop(socket);
    stub.push(Step::default().gated("first"));
    let socket = send(&stub, &format!("/model/{MODEL}/converse-stream"), &hello()).await;
    stub.wait_for(|counters| counters.in_flight == 1 && counters.requests == 3).await;
    stub.open_gate("first");
    assert!(read(socket).await.unwrap().is_whole);
    let counters = stub.wait_for(|counters| counters.in_flight == 0 && counters.answered == 1).await;
    assert_eq!((counters.closed_early, counters.streams_closed_early), (2, 1));
    assert_eq!(stub.closed_early().len(), 2);
}

#[tokio::test]
async fn scripts_are_for_models_and_a_reset_forgets_them() {
    let stub = BedrockStub::start().await;
    let own = Control {
        model: Some("anthropic.claude-sonnet-4-5-20250929-v1:0".to_owned()),
        steps: Some(vec![Step::text("own")]),
        cycle: true,
        bearer_keys: Some(vec!["another".to_owned(), BEARER_KEY.to_owned()]),
        ..Control::default()
    };
    stub.control(own);
    stub.push(Step::text("anyone's"));
    stub.answer_with(|seen| Step::text(&format!("answer {}", seen.number)));
    let text = |answer: Answer| answer.json()["output"]["message"]["content"][0]["text"].as_str().unwrap().to_owned();
    let other = "/model/amazon.nova-lite-v1%3A0/converse";
    assert_eq!(text(ask(&stub, "converse", &hello()).await), "own");
    assert_eq!(text(read(send(&stub, other, &hello()).await).await.unwrap()), "anyone's");
    assert_eq!(text(read(send(&stub, other, &hello()).await).await.unwrap()), "answer 2");
    assert_eq!(text(ask(&stub, "converse", &hello()).await), "own");
    stub.control(Control { reset: true, ..Control::default() });
    assert_ne!(text(ask(&stub, "converse", &hello()).await), "own");
    assert_eq!((stub.counters().requests, stub.requests().len()), (1, 1));
}
