//! AWS Bedrock as a configuration names it: where it is called, as whom, and what is told of that.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::app::{TestApp, spawn_app, spawn_app_in};

const MODEL: &str = "us.anthropic.claude-3-7-sonnet-20250219-v1:0";
/// The model in the path, where it is one segment.
const MODEL_IN_PATH: &str = "us.anthropic.claude-3-7-sonnet-20250219-v1%3A0";

/// A call as it came.
#[derive(Debug, Clone)]
struct Call {
    path: String,
    head: String,
    body: Value,
}

impl Call {
    fn header(&self, name: &str) -> Option<&str> {
        let is_named = |(line, _): &(&str, &str)| line.eq_ignore_ascii_case(name);
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(is_named).map(|(_, value)| value.trim())
    }
}

/// Answers `forty-two` to whatever is asked, whole or as a stream.
struct Runtime {
    address: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Runtime {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let seen = Arc::clone(&calls);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&seen)));
            }
        });
        Self { address, calls }
    }

    fn last(&self) -> Call {
        self.calls.lock().last().cloned().expect("there was a call")
    }
}

async fn serve(mut socket: TcpStream, calls: Arc<Mutex<Vec<Call>>>) {
    while let Some(call) = receive(&mut socket).await {
        let is_stream = call.path.ends_with("/converse-stream");
        calls.lock().push(call);
        let (kind, body) = match is_stream {
            true => ("application/vnd.amazon.eventstream", streamed()),
            false => ("application/json", whole().to_string().into_bytes()),
        };
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        if socket.write_all(&[head, body].concat()).await.is_err() {
            return;
        }
    }
}

async fn receive(socket: &mut TcpStream) -> Option<Call> {
    let mut received = Vec::new();
    loop {
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(received[..end].to_vec()).unwrap();
            let call = Call { path: head.split(' ').nth(1).unwrap().to_owned(), head, body: Value::Null };
            let length: usize = call.header("content-length").map_or(0, |length| length.parse().unwrap());
            if received.len() >= end + 4 + length {
                let body = &received[end + 4..end + 4 + length];
                return Some(Call { body: serde_json::from_slice(body).unwrap(), ..call });
            }
        }
        let mut piece = [0; 4096];
        match socket.read(&mut piece).await {
            Ok(count @ 1..) => received.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}

fn whole() -> Value {
    json!({
        "output": {"message": {"role": "assistant", "content": [{"text": "forty-two"}]}},
        "stopReason": "end_turn", "usage": {"inputTokens": 11, "outputTokens": 3, "totalTokens": 14},
        "metrics": {"latencyMs": 5}
    })
}

fn streamed() -> Vec<u8> {
    [
        frame("messageStart", &json!({"role": "assistant"})),
        frame("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "forty-"}})),
        frame("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "two"}})),
        frame("contentBlockStop", &json!({"contentBlockIndex": 0})),
        frame("messageStop", &json!({"stopReason": "end_turn"})),
        frame(
            "metadata",
            &json!({"usage": {"inputTokens": 11, "outputTokens": 3, "totalTokens": 14}, "metrics": {"latencyMs": 5}}),
        ),
    ]
    .concat()
}

/// An event in AWS's framing: lengths, their checksum, headers, payload, and the checksum of all.
fn frame(event: &str, payload: &Value) -> Vec<u8> {
    let payload = payload.to_string().into_bytes();
    let mut headers = Vec::new();
    for (name, value) in [(":message-type", "event"), (":event-type", event), (":content-type", "application/json")] {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let checksum = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum().to_be_bytes()
    };
    let mut frame = ((16 + headers.len() + payload.len()) as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    frame.extend_from_slice(&checksum(&frame));
    frame.extend_from_slice(&headers);
    frame.extend_from_slice(&payload);
    frame.extend_from_slice(&checksum(&frame));
    frame
}

/// The configuration of its_hub's manual for Bedrock, with `fields` put over it.
fn document(fields: Value) -> Value {
    let mut document = json!({
        "provider": "litellm", "endpoint": "auto", "api_key": null, "model": format!("bedrock/{MODEL}"),
        "alg": "self-consistency", "tool_vote": "tool_hierarchical",
        "exclude_args": ["timestamp", "request_id", "id"], "budget": 1,
        "extra_args": {
            "aws_access_key_id": "AKIAEXAMPLE0123456", "aws_secret_access_key": "your-secret-key-0123456789",
            "aws_region_name": "us-east-1"
        }
    });
    document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    document
}

async fn app_in(environment: &[(&str, &str)]) -> TestApp {
    spawn_app_in(Arc::new(tempfile::tempdir().unwrap()), environment, |_| {}).await
}

async fn ask(app: &TestApp, fields: Value) -> crate::app::Answer {
    let mut request = json!({
        "model": format!("bedrock/{MODEL}"), "max_tokens": 50, "temperature": 0.5, "stop": ["END"],
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 6 times 7?"}]
    });
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    app.post("/v1/chat/completions", &request).await
}

#[tokio::test]
async fn the_configuration_of_its_hubs_manual_is_called_by_converse() {
    let runtime = Runtime::start().await;
    let app = app_in(&[("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", &runtime.address)]).await;
    assert_eq!(app.post("/configure", &document(json!({}))).await.ok()["warnings"], json!([]));
    let answer = ask(&app, json!({})).await.ok();
    assert_eq!(answer["choices"][0]["message"]["content"], "forty-two");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!((&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]), (&json!(11), &json!(3)));
    let call = runtime.last();
    assert_eq!(call.path, format!("/model/{MODEL_IN_PATH}/converse"));
    let signature = call.header("authorization").unwrap();
    assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE0123456/"), "{signature}");
    assert!(signature.contains("/us-east-1/bedrock/aws4_request"), "{signature}");
    assert_eq!(
        call.body,
        json!({
            "messages": [{"role": "user", "content": [{"text": "What is 6 times 7?"}]}],
            "system": [{"text": "Be brief."}],
            "inferenceConfig": {"maxTokens": 50, "temperature": 0.5, "stopSequences": ["END"]}
        })
    );
    // A vote takes the same way.
    let answer = ask(&app, json!({"budget": 3})).await.ok();
    assert_eq!(answer["choices"][0]["message"]["content"], "forty-two");
    assert_eq!(runtime.calls.lock().len(), 4);
}

#[tokio::test]
async fn a_stream_comes_as_chunks_and_ends_with_its_usage() {
    let runtime = Runtime::start().await;
    let app = spawn_app().await;
    app.post("/configure", &document(json!({"provider": "bedrock", "endpoint": runtime.address}))).await.ok();
    let chunks = ask(&app, json!({"stream": true, "stream_options": {"include_usage": true}})).await.events();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "forty-two");
    assert!(chunks.iter().any(|chunk| chunk["choices"][0]["finish_reason"] == "stop"), "{chunks:?}");
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 14);
    assert_eq!(runtime.last().path, format!("/model/{MODEL_IN_PATH}/converse-stream"));
}
