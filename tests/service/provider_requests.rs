//! What reaches the upstream: every byte of the client's JSON, in one body that the candidates share.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use itsd::completion::{FinishReason, Logprobs, MaxTokens, MaxTokensName, Prompt, Sampling, Tool};
use itsd::providers::Shared;
use itsd::providers::openai::Provider;
use itsd::providers::{ProviderError, ProviderSpec};
use serde_json::json;

use crate::provider::{KEY, complete, prompt, provider, raw, spec, stream};
use crate::upstream::{Step, Upstream};

/// Every field of a prompt in use, with spacing, escapes and numbers that a parser would change.
fn full_prompt() -> Prompt {
    let tool = r#"{ "type":"function", "function": {"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}, "strict": true} }"#;
    Prompt {
        model: "Qwen/Qwen3-8B".to_owned(),
        messages: raw(
            r#"[ {"role":"system","content":"Be\u0020brief", "name":"ops"}, {"role":"user","content":[{"type":"text","text":"été 🦀"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"high"}}]}, {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\": 1.0}"}}]}, {"role":"tool","tool_call_id":"c1","content":"1e3"} ]"#,
        ),
        tools: vec![Tool { definition: raw(tool), name: Some("get_weather".to_owned()), parameters: None }],
        tool_choice: Some(raw(r#"{"type": "function","function":{"name":"get_weather"}}"#)),
        response_format: Some(raw(
            r#"{"type":"json_schema", "json_schema":{"name":"a","schema":{"maximum":100000000000000000000000}}}"#,
        )),
        sampling: Sampling {
            temperature: Some(0.7),
            top_p: Some(0.95),
            top_k: Some(40),
            min_p: Some(0.05),
            max_tokens: Some(MaxTokens { tokens: 256, name: MaxTokensName::MaxCompletionTokens }),
            seed: Some(99),
            stop: vec!["\n\n".to_owned(), "END".to_owned()],
            presence_penalty: Some(-0.5),
            frequency_penalty: Some(1.5),
            logit_bias: BTreeMap::from([(50256, -100.0)]),
        },
        logprobs: Some(Logprobs { top: 3 }),
        signals: None,
        passthrough: BTreeMap::from([
            ("metadata".to_owned(), raw(r#"{"run": "a  b"}"#)),
            ("parallel_tool_calls".to_owned(), raw("false")),
            ("x_unknown".to_owned(), raw("1.000000000000000000001")),
        ]),
    }
}

const FULL_BODY: &str = r#"{"model":"Qwen/Qwen3-8B","messages":[ {"role":"system","content":"Be\u0020brief", "name":"ops"}, {"role":"user","content":[{"type":"text","text":"été 🦀"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"high"}}]}, {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\": 1.0}"}}]}, {"role":"tool","tool_call_id":"c1","content":"1e3"} ],"tools":[{ "type":"function", "function": {"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}, "strict": true} }],"tool_choice":{"type": "function","function":{"name":"get_weather"}},"response_format":{"type":"json_schema", "json_schema":{"name":"a","schema":{"maximum":100000000000000000000000}}},"temperature":0.7,"top_p":0.95,"top_k":40,"min_p":0.05,"max_completion_tokens":256,"stop":["\n\n","END"],"presence_penalty":-0.5,"frequency_penalty":1.5,"logit_bias":{"50256":-100.0},"logprobs":true,"top_logprobs":3,"metadata":{"run": "a  b"},"parallel_tool_calls":false,"x_unknown":1.000000000000000000001"#;

/// What the upstream received as the body of its one request.
async fn body_of(prompt: &Prompt, seed: Option<i64>, is_streamed: bool) -> String {
    let upstream = Upstream::start().await;
    let provider = provider(&upstream, |_| {});
    let request = provider.prepare(prompt);
    if is_streamed {
        provider.stream(request, seed, |_| ()).count().await;
    } else {
        provider.complete(&request, seed, |_| ()).await.unwrap();
    }
    upstream.seen()[0].text().to_owned()
}

#[tokio::test]
async fn every_byte_of_the_request_is_preserved() {
    assert_eq!(body_of(&full_prompt(), None, false).await, format!("{FULL_BODY}}}"));
}

#[tokio::test]
async fn candidates_differ_in_their_seed_alone() {
    assert_eq!(body_of(&full_prompt(), Some(-7), false).await, format!("{FULL_BODY},\"seed\":-7}}"));
}

#[tokio::test]
async fn a_stream_asks_for_its_usage() {
    let tail = r#""stream":true,"stream_options":{"include_usage":true}}"#;
    assert_eq!(body_of(&full_prompt(), None, true).await, format!("{FULL_BODY},{tail}"));
    assert_eq!(body_of(&full_prompt(), Some(3), true).await, format!("{FULL_BODY},\"seed\":3,{tail}"));
}

#[tokio::test]
async fn a_setting_that_nobody_named_is_not_sent() {
    let expected = r#"{"model":"scripted","messages":[{"role":"user","content":"What is 6 times 7?"}]}"#;
    assert_eq!(body_of(&prompt(), None, false).await, expected);
}

#[tokio::test]
async fn a_large_body_arrives_whole_with_and_without_a_seed() {
    let mut prompt = prompt();
    let picture = "A".repeat(3 << 20);
    prompt.messages = raw(&json!([{"role": "user", "content": picture}]).to_string());
    for seed in [None, Some(1)] {
        assert!(body_of(&prompt, seed, false).await.contains(&picture));
    }
}

#[tokio::test]
async fn configured_fields_are_added_where_the_request_has_none_of_its_own() {
    let upstream = Upstream::start().await;
    let provider = provider(&upstream, |spec| {
        let extra = json!({"provider": {"order": ["a"]}, "temperature": 1.0, "max_tokens": 9, "metadata": 1, "n": 4, "stream": true});
        spec.body = extra.as_object().unwrap().clone();
    });
    provider.complete(&provider.prepare(&full_prompt()), None, |_| ()).await.unwrap();
    provider.complete(&provider.prepare(&prompt()), None, |_| ()).await.unwrap();
    let seen = upstream.seen();
    assert_eq!(seen[0].text(), format!("{FULL_BODY},\"provider\":{{\"order\":[\"a\"]}}}}"));
    let added = &seen[1].json();
    assert_eq!((&added["temperature"], &added["max_tokens"], &added["metadata"]), (&json!(1.0), &json!(9), &json!(1)));
    assert_eq!((added.get("n"), added.get("stream")), (None, None));
}

#[tokio::test]
async fn key_and_headers_are_sent_and_a_header_can_replace_the_bearer() {
    let upstream = Upstream::start().await;
    complete(&provider(&upstream, |spec| spec.headers = vec![("X-Title".into(), "itsd".into())])).await.unwrap();
    complete(&provider(&upstream, |spec| spec.headers = vec![("authorization".into(), "Basic abc".into())]))
        .await
        .unwrap();
    complete(&provider(&upstream, |spec| spec.api_key = None)).await.unwrap();
    let seen = upstream.seen();
    let headers = |at: usize| (seen[at].request.header("authorization"), seen[at].request.header("x-title"));
    assert_eq!(headers(0), (Some(format!("Bearer {KEY}").as_str()), Some("itsd")));
    assert_eq!(headers(1), (Some("Basic abc"), None));
    assert_eq!(headers(2), (None, None));
    assert_eq!(seen[0].request.header("content-type"), Some("application/json"));
    assert_eq!(seen[0].request.header("accept-encoding"), Some("gzip"));
}

#[tokio::test]
async fn the_path_is_appended_to_the_base_url_and_a_query_stays() {
    let upstream = Upstream::start().await;
    for (base, path) in [
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/v1?api-version=2024-10-21", "/v1/chat/completions?api-version=2024-10-21"),
    ] {
        let provider =
            Provider::new(spec(&format!("http://{}{base}", upstream.address())), &Shared::default()).unwrap();
        complete(&provider).await.unwrap();
        assert_eq!(upstream.seen().last().unwrap().request.target, path);
    }
}

#[tokio::test]
async fn a_completion_keeps_the_message_and_reads_usage_and_logprobs() {
    let upstream = Upstream::start().await;
    let message = r#"{"role":"assistant", "content":"42","reasoning_content":"6*7","annotations":[1.50]}"#;
    let logprobs = r#"{"content":[{"token":"4","logprob":-0.5},{"token":"2","logprob":-1.0}], "refusal":null}"#;
    upstream.push(Step::body(&format!(
        r#"{{"choices":[{{"index":0,"message":{message},"logprobs":{logprobs},"finish_reason":"length"}}],"error":null,"usage":{{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"prompt_tokens_details":{{"cached_tokens":4}},"completion_tokens_details":{{"reasoning_tokens":1}}}}}}"#
    )));
    let completion = complete(&provider(&upstream, |_| {})).await.unwrap();
    assert_eq!(completion.reply.raw().get(), message);
    assert_eq!(completion.logprobs.unwrap().get(), logprobs);
    assert_eq!(completion.mean_logprob, Some(-0.75));
    assert_eq!(completion.finish_reason, FinishReason::Length);
    let usage = completion.usage;
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (9, 2));
    assert_eq!((usage.cached_tokens, usage.reasoning_tokens, usage.unknown_calls), (4, 1, 0));
}

#[tokio::test]
async fn usage_that_is_missing_or_odd_is_an_unknown_call_and_not_a_failure() {
    let upstream = Upstream::start().await;
    for usage in ["", r#","usage":null"#, r#","usage":{}"#, r#","usage":"n/a""#, r#","usage":{"prompt_tokens":-1}"#] {
        upstream.push(Step::body(&format!(
            r#"{{"choices":[{{"message":{{"content":"42"}},"finish_reason":"stop"}}]{usage}}}"#
        )));
        let completion = complete(&provider(&upstream, |_| {})).await.unwrap();
        assert_eq!((completion.usage.unknown_calls, completion.usage.total_tokens()), (1, 0), "{usage}");
        assert_eq!((completion.mean_logprob, completion.logprobs.is_none()), (None, true));
    }
}

#[tokio::test]
async fn a_tool_call_comes_back_as_it_was_made() {
    let upstream = Upstream::start().await;
    let provider = provider(&upstream, |_| {});
    let mut prompt = full_prompt();
    prompt.messages = raw(r#"[{"role":"user","content":"Weather?"}]"#);
    prompt.response_format = None;
    let completion = provider.complete(&provider.prepare(&prompt), None, |_| ()).await.unwrap();
    assert_eq!(completion.reply.tool_calls()[0].name, "get_weather");
    assert_eq!(completion.finish_reason, FinishReason::ToolCalls);
    let (_, streamed) = stream(&provider, &prompt).await;
    assert_eq!(streamed.unwrap().reply.tool_calls(), completion.reply.tool_calls());
}

#[test]
fn a_provider_that_could_not_work_is_refused_when_it_is_made() {
    let error = |change: &dyn Fn(&mut ProviderSpec)| {
        let mut spec = spec("http://127.0.0.1:9/v1");
        change(&mut spec);
        Provider::new(spec, &Shared::default()).unwrap_err()
    };
    assert!(matches!(error(&|spec| spec.members[0].url = "ftp://a/v1".parse().unwrap()), ProviderError::NotHttp));
    assert!(matches!(error(&|spec| spec.members[0].url = "unix:/a".parse().unwrap()), ProviderError::NotHttp));
    assert!(matches!(
        error(&|spec| spec.members[0].url = "http://u:p@a/v1".parse().unwrap()),
        ProviderError::Credentials
    ));
    assert!(matches!(error(&|spec| spec.calls.n_parallel = 0), ProviderError::NoParallelCalls));
    assert!(matches!(error(&|spec| spec.api_key = Some("a\nb".into())), ProviderError::ApiKey));
    let with_header = |name: &str, value: &str| {
        let header = (name.to_owned(), value.into());
        error(&|spec| spec.headers = vec![header.clone()])
    };
    assert!(matches!(with_header("a b", "c"), ProviderError::Header(_)));
    assert!(matches!(with_header("x-a", "b\r\nc: d"), ProviderError::Header(_)));
    assert!(matches!(with_header("Content-Length", "0"), ProviderError::ReservedHeader(_)));
}
