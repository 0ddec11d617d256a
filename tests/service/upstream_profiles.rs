//! The scripted upstream itself, over sockets of this test's own: what each of the servers that it stands for takes,
//! refuses, and answers otherwise than the others.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::PATIENCE;
use crate::upstream::{Call, Profile, Step, Upstream};

/// A response as it came over the wire, its body put together.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The data of the events of a stream, `[DONE]` left out.
    pub fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

/// Asks the upstream for `target` with these header lines.
pub async fn ask(upstream: &Upstream, target: &str, headers: &str, body: &Value) -> Response {
    let bytes = ask_raw(upstream, target, headers, body).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
    Response { status, head: head.to_owned(), body }
}

/// The response byte for byte, until the upstream ends it.
pub async fn ask_raw(upstream: &Upstream, target: &str, headers: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let request =
        format!("POST {target} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
    let mut socket = TcpStream::connect(upstream.address()).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    // It answers first, and then sees that nothing else will come.
    let mut response = Vec::new();
    let reading = async {
        while !is_whole(&response) {
            if socket.read_buf(&mut response).await.unwrap() == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("a response");
    response
}

fn is_whole(response: &[u8]) -> bool {
    let text = String::from_utf8_lossy(response);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    match head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        Some(length) => body.len() >= length.parse::<usize>().unwrap(),
        None => text.ends_with("\r\n0\r\n\r\n"),
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole += &rest[..size];
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

fn chat_path(profile: Profile) -> String {
    match profile {
        Profile::Azure => "/openai/deployments/scripted/chat/completions?api-version=2024-10-21".to_owned(),
        _ => format!("{}/chat/completions", profile.quirks().base_path),
    }
}

const KEYS: &str = "authorization: Bearer sk-good\r\napi-key: good\r\n";

fn question(more: Value) -> Value {
    let mut body = json!({"model": "scripted", "messages": [{"role": "user", "content": "?"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn chat(profile: Profile, step: Step, more: Value) -> Response {
    let upstream = Upstream::with_profile(profile).await;
    upstream.push(step);
    ask(&upstream, &chat_path(profile), KEYS, &question(more)).await
}

async fn status(profile: Profile, more: Value) -> u16 {
    chat(profile, Step::default(), more).await.status
}

fn calculator() -> Value {
    json!([{"type": "function", "function": {"name": "calculator", "parameters": {}}}])
}

#[tokio::test]
async fn every_profile_answers_a_plain_question_whole_and_streamed() {
    for (name, profile) in Profile::ALL {
        assert_eq!(name.parse::<Profile>(), Ok(profile));
        let whole = chat(profile, Step::content("one two"), json!({"temperature": 0.5, "max_tokens": 9})).await;
        assert_eq!(whole.status, 200, "{name}: {}", whole.body);
        assert_eq!(whole.json()["choices"][0]["message"]["content"], "one two", "{name}");
        assert!(whole.json()["usage"]["completion_tokens"] == 2, "{name}");
        let streamed = chat(profile, Step::content("one two"), json!({"stream": true})).await;
        let said: String = streamed
            .events()
            .iter()
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(said, "one two", "{name}");
    }
    assert!("grok".parse::<Profile>().unwrap_err().contains("groq"));
}

#[tokio::test]
async fn paths_and_keys_are_those_of_the_server() {
    for (name, profile) in Profile::ALL {
        let upstream = Upstream::with_profile(profile).await;
        let elsewhere = ask(&upstream, "/elsewhere/chat/completions", KEYS, &question(json!({}))).await;
        let expected = if profile == Profile::LmStudio || profile == Profile::ErrorIn200 { 200 } else { 404 };
        let expected = match profile {
            Profile::LlamaServer | Profile::TextGenerationWebUi => 500,
            _ => expected,
        };
        assert_eq!(elsewhere.status, expected, "{name}");
        let asks_for_key = !matches!(profile.quirks().key, crate::upstream::Key::None);
        for (headers, is_good) in
            [("", false), ("authorization: Bearer wrong\r\napi-key: wrong\r\n", false), (KEYS, true)]
        {
            let answer = ask(&upstream, &chat_path(profile), headers, &question(json!({}))).await;
            assert_eq!(answer.status, if is_good || !asks_for_key { 200 } else { 401 }, "{name} {headers}");
        }
    }
    let azure = Upstream::with_profile(Profile::Azure).await;
    let path = "/openai/deployments/scripted/chat/completions";
    assert_eq!(ask(&azure, path, KEYS, &question(json!({}))).await.status, 404, "no api-version");
    let bearer = "authorization: Bearer sk-good\r\n";
    let target = chat_path(Profile::Azure);
    assert_eq!(ask(&azure, &target, bearer, &question(json!({}))).await.status, 401, "a key is no token");
    assert_eq!(ask(&azure, &target, "authorization: Bearer eyJ0\r\n", &question(json!({}))).await.status, 200);
    let no_model = json!({"messages": [{"role": "user", "content": "?"}]});
    assert_eq!(ask(&azure, &target, KEYS, &no_model).await.json()["model"], "scripted", "the deployment is the model");
}

#[tokio::test]
async fn requests_are_refused_as_the_servers_refuse_them() {
    use Profile::*;
    let forced =
        json!({"tools": calculator(), "tool_choice": {"type": "function", "function": {"name": "calculator"}}});
    for (profile, more, expected) in [
        (Groq, json!({"guided_json": {}}), 400),
        (Groq, json!({"logprobs": true}), 400),
        (Groq, json!({"n": 2}), 400),
        (Groq, json!({"n": 1}), 200),
        (Groq, json!({"messages": [{"role": "user", "name": "ann", "content": "?"}]}), 400),
        (OpenAi, json!({"top_k": 5}), 400),
        (GeminiCompatible, json!({"store": false}), 400),
        (Vllm, json!({"guided_json": {}, "top_k": 5}), 200),
        (LmStudio, json!({"response_format": {"type": "json_object"}}), 400),
        (LmStudio, json!({"response_format": {"type": "json_schema", "json_schema": {}}}), 200),
        (DeepInfra, forced.clone(), 400),
        (DeepInfra, json!({"tools": calculator(), "tool_choice": "required"}), 400),
        (DeepInfra, json!({"tools": calculator(), "tool_choice": "auto"}), 200),
        (OpenAi, forced, 200),
        (OldLlamaServer, json!({"n": 2}), 400),
        (LlamaServer, json!({"n": 2}), 200),
        (OpenAi, json!({"model": "o3-mini", "max_tokens": 5}), 400),
        (OpenAi, json!({"model": "o3-mini", "max_completion_tokens": 5}), 200),
        (OpenAi, json!({"model": "gpt-5", "temperature": 0.2}), 400),
        (OpenAi, json!({"model": "gpt-5", "temperature": 1}), 200),
        (OpenAi, json!({"model": "gpt-5", "logprobs": true}), 400),
        (OpenAi, json!({"model": "gpt-4o", "max_tokens": 5, "temperature": 0.2, "logprobs": true}), 200),
        (Plain, json!({"model": "o3-mini", "max_tokens": 5, "anything": 1}), 200),
    ] {
        assert_eq!(status(profile, more.clone()).await, expected, "{profile:?} {more}");
    }
}

#[tokio::test]
async fn errors_have_the_shape_of_the_server() {
    use Profile::*;
    for (profile, refused, status, path, value) in [
        (OpenAi, 429, 429, "/error/code", json!("rate_limit_exceeded")),
        (Azure, 429, 429, "/error/code", json!("429")),
        (OpenRouter, 429, 429, "/error/code", json!(429)),
        (Groq, 413, 413, "/error/code", json!("rate_limit_exceeded")),
        (Together, 503, 503, "/error/type", json!("server_error")),
        (DeepInfra, 429, 429, "/error", json!({"message": "Rate limit reached for requests. Try again later."})),
        (LmStudio, 400, 400, "/error", json!("The request could not be understood.")),
        (Vllm, 400, 400, "/object", json!("error")),
        (LlamaServer, 400, 500, "/error/code", json!(400)),
        (LlamaServer, 503, 503, "/error/type", json!("unavailable_error")),
        (GeminiCompatible, 429, 429, "/0/error/status", json!("RESOURCE_EXHAUSTED")),
        (ErrorIn200, 429, 200, "/error/code", json!(429)),
    ] {
        let answer = chat(profile, Step::refused(refused), json!({})).await;
        assert_eq!((answer.status, answer.json().pointer(path)), (status, Some(&value)), "{}", answer.body);
    }
    let page = chat(HtmlErrors, Step::refused(502), json!({})).await;
    assert!(page.status == 502 && page.head.contains("text/html") && page.body.starts_with("<html>"), "{}", page.body);
    let words = chat(TextGenerationWebUi, Step::refused(400), json!({})).await;
    assert_eq!((words.status, words.body.as_str()), (500, "Internal Server Error"));
    let event = chat(ErrorIn200, Step::refused(429), json!({"stream": true})).await;
    assert!(event.head.contains("text/event-stream"), "{}", event.head);
    assert_eq!(event.events()[0]["error"]["code"], 429);
}

#[tokio::test]
async fn n_is_honoured_ignored_or_takes_turns() {
    let count = async |profile| {
        let answer = chat(profile, Step::default(), json!({"n": 3})).await;
        answer.json()["choices"].as_array().map(Vec::len)
    };
    assert_eq!(count(Profile::OpenAi).await, Some(3));
    assert_eq!(count(Profile::IgnoresN).await, Some(1));
    assert_eq!(count(Profile::Ollama).await, Some(1));
    let order = async |profile| -> String {
        let answer = chat(profile, Step::content("a b"), json!({"n": 2, "stream": true})).await;
        answer
            .events()
            .iter()
            .filter_map(|event| event["choices"][0]["index"].as_u64())
            .map(|at| at.to_string())
            .collect()
    };
    assert_eq!(order(Profile::Plain).await, "00001111");
    assert_eq!(order(Profile::Vllm).await, "01010101");
}

#[tokio::test]
async fn log_probabilities_have_the_shape_of_the_server() {
    let step = || Step { logprobs: Some(vec![-0.5, -1.0]), ..Step::content("one two") };
    let wish = json!({"logprobs": true});
    let of = async |profile| chat(profile, step(), wish.clone()).await.json()["choices"][0]["logprobs"].clone();
    assert_eq!(of(Profile::Plain).await["content"][1]["logprob"], -1.0);
    assert_eq!(of(Profile::Together).await["token_logprobs"], json!([-0.5, -1.0]));
    assert_eq!(of(Profile::Together).await["tokens"], json!(["one ", "two"]));
    assert_eq!(of(Profile::LmStudio).await, Value::Null);
    let chunks = chat(Profile::Together, step(), json!({"logprobs": 1, "stream": true})).await.events();
    assert_eq!(chunks[2]["choices"][0]["logprobs"], -1.0);
}

#[tokio::test]
async fn tool_calls_in_streams_are_told_apart_as_the_server_does() {
    let calls = || {
        let call = |name: &str| Call { name: name.to_owned(), arguments: "{\"a\": 1}".to_owned(), ..Call::default() };
        Step { tool_calls: vec![call("first"), call("second")], ..Step::default() }
    };
    let of = async |profile| {
        let events = chat(profile, calls(), json!({"stream": true, "tools": calculator()})).await.events();
        let pieces =
            events.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"][0].as_object().cloned());
        let indices: Vec<Value> = pieces.map(|piece| piece.get("index").cloned().unwrap_or_default()).collect();
        let end = events.iter().find_map(|event| event["choices"][0]["finish_reason"].as_str().map(str::to_owned));
        (indices, end.unwrap())
    };
    let (indices, end) = of(Profile::Plain).await;
    assert_eq!(
        (indices, end.as_str()),
        (vec![json!(0), json!(0), json!(0), json!(1), json!(1), json!(1)], "tool_calls")
    );
    assert_eq!(of(Profile::Ollama).await, (vec![Value::Null, Value::Null], "stop".to_owned()));
    assert_eq!(of(Profile::GeminiCompatible).await, (vec![json!(0), json!(0)], "stop".to_owned()));
}

#[tokio::test]
async fn streams_begin_and_end_as_the_servers_have_it() {
    let of = async |profile, more: Value| {
        let mut fields = json!({"stream": true});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        chat(profile, Step::content("one two"), fields).await
    };
    let azure = of(Profile::Azure, json!({})).await.events();
    assert_eq!(azure[0]["choices"], json!([]));
    assert!(azure.last().unwrap()["choices"][0].get("delta").is_none());

    let openrouter = of(Profile::OpenRouter, json!({})).await;
    assert!(openrouter.body.starts_with(": OPENROUTER PROCESSING\n\n"), "{}", openrouter.body);
    assert_eq!(openrouter.events().last().unwrap()["usage"]["prompt_tokens"], 10, "nobody asked");

    let together = of(Profile::Together, json!({})).await.events();
    assert_eq!(together.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert_eq!(together.last().unwrap()["usage"]["prompt_tokens"], 10);

    let groq = of(Profile::Groq, json!({})).await.events();
    assert_eq!(groq.last().unwrap()["x_groq"]["usage"]["prompt_tokens"], 10);

    let vllm = of(Profile::Vllm, json!({"stream_options": {"include_usage": true}})).await.events();
    let with_usage: Vec<bool> = vllm.iter().map(|chunk| chunk.get("usage").is_some()).collect();
    assert_eq!(with_usage, [false, false, false, false, true]);
    assert!(of(Profile::Vllm, json!({})).await.events().iter().all(|chunk| chunk.get("usage").is_none()));

    for (profile, has_end) in
        [(Profile::OldLlamaServer, false), (Profile::TextGenerationWebUi, false), (Profile::Vllm, true)]
    {
        assert_eq!(of(profile, json!({})).await.body.contains("[DONE]"), has_end, "{profile:?}");
    }
    assert!(of(Profile::TextGenerationWebUi, json!({})).await.body.contains("}\r\n\r\ndata: {"));
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_has_the_shape_of_the_server() {
    let of = async |profile| {
        let step = Step { error: Some(json!({"message": "down", "code": 502})), ..Step::content("one two three") };
        chat(profile, step, json!({"stream": true})).await
    };
    let plain = of(Profile::Plain).await.events();
    assert_eq!(plain.last().unwrap(), &json!({"error": {"message": "down", "code": 502}}));
    let openrouter = of(Profile::OpenRouter).await.events();
    let last = openrouter.last().unwrap();
    assert_eq!((&last["error"]["code"], &last["choices"][0]["finish_reason"]), (&json!(502), &json!("error")));
    assert!(of(Profile::OldLlamaServer).await.body.ends_with("\n\nerror: {\"message\":\"down\",\"code\":502}\n\n"));
}

#[tokio::test]
async fn reasoning_is_called_as_the_server_calls_it() {
    for (profile, name) in
        [(Profile::Plain, "reasoning_content"), (Profile::Ollama, "reasoning"), (Profile::OpenRouter, "reasoning")]
    {
        let step = || Step { reasoning_content: Some("so it is".to_owned()), ..Step::content("") };
        let message = chat(profile, step(), json!({})).await.json()["choices"][0]["message"].clone();
        assert_eq!((&message["content"], &message[name]), (&json!(""), &json!("so it is")), "{profile:?}");
        let events = chat(profile, step(), json!({"stream": true})).await.events();
        let said: String = events.iter().filter_map(|event| event["choices"][0]["delta"][name].as_str()).collect();
        assert_eq!(said, "so it is", "{profile:?}");
    }
}
