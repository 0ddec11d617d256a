//! A law of requests to Bedrock: whatever a client asks for is refused by the daemon, or taken by the service. None is
//! sent that the service refuses.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::bedrock_configuration::{app_at, document};
use crate::bedrock_stub::{BedrockStub, ModelRules};

const ROUNDS: usize = 60;

/// Some models, with what the service refuses of each.
fn models() -> [(&'static str, ModelRules); 6] {
    let rules = ModelRules::default();
    let one_sampler = ModelRules { refuses_temperature_with_top_p: true, ..rules.clone() };
    let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    [
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", rules.clone()),
        ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", one_sampler.clone()),
        ("us.anthropic.claude-opus-4-6-v1", ModelRules { refuses_prefill: true, ..one_sampler }),
        (
            "global.anthropic.claude-sonnet-5",
            ModelRules { refuses_prefill: true, refused_fields: fields(&["temperature", "topP"]), ..rules.clone() },
        ),
        ("openai.gpt-oss-120b-1:0", ModelRules { refused_fields: fields(&["stopSequences"]), ..rules.clone() }),
        ("amazon.titan-text-express-v1", ModelRules { refuses_tools: true, ..rules }),
    ]
}

struct Client(ChaCha8Rng);

impl Client {
    fn one_in(&mut self, number: u32) -> bool {
        self.0.random_range(0..number) == 0
    }

    fn pick(&mut self, values: &[Value]) -> Value {
        values[self.0.random_range(0..values.len())].clone()
    }

    fn text(&mut self) -> Value {
        self.pick(&[
            json!("Hello"),
            json!("a\nb "),
            json!("é\u{1f600}"),
            json!("\"{}"),
            json!("x"),
            json!(" "),
            json!(""),
        ])
    }

    fn content(&mut self, role: &str) -> Value {
        if self.one_in(2) {
            return self.text();
        }
        let count = self.0.random_range(0..4);
        let parts = (0..count).map(|_| {
            let mut part = match self.0.random_range(0..6) {
                0 if role == "user" => {
                    json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}})
                }
                1 if role == "user" => {
                    let name = self.pick(&[json!("a: b_c.pdf"), json!("x  y.csv"), json!(""), json!("ü(1).md")]);
                    json!({"type": "file", "file": {"filename": name, "file_data": "data:application/pdf;base64,JVBERi0="}})
                }
                2 if role == "tool" => json!({"type": "json", "json": {"a": [1, null]}}),
                3 if role == "assistant" => json!({"type": "refusal", "refusal": self.text()}),
                _ => json!({"type": "text", "text": self.text()}),
            };
            if self.one_in(6) {
                part["cache_control"] = json!({"type": "ephemeral"});
            }
            part
        });
        parts.collect()
    }

    fn id(&mut self) -> Value {
        self.pick(&[json!("call_1"), json!("call_2"), json!("call|3"), json!("é"), json!("y".repeat(99))])
    }

    fn messages(&mut self) -> Value {
        let mut messages = Vec::new();
        for _ in 0..self.0.random_range(1..6) {
            let role = ["system", "developer", "user", "user", "assistant", "calls"][self.0.random_range(0..6)];
            if role != "calls" {
                messages.push(json!({"role": role, "content": self.content(role)}));
                continue;
            }
            let ids: Vec<Value> = (0..self.0.random_range(1..3)).map(|_| self.id()).collect();
            let calls: Vec<Value> = ids
                .iter()
                .map(|id| {
                    let arguments = self.pick(&[json!("{\"a\": 1}"), json!("{}"), json!(""), json!("{\"b\": {}}")]);
                    json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}})
                })
                .collect();
            let mut message = json!({"role": "assistant", "content": self.content("assistant"), "tool_calls": calls});
            if self.one_in(3) {
                message["thinking_blocks"] = json!([{"type": "thinking", "thinking": "hm", "signature": "c2ln"}]);
            }
            messages.push(message);
            for id in ids {
                // Sometimes another call is answered, or none, or somebody speaks between.
                let id = if self.one_in(12) { self.id() } else { id };
                if !self.one_in(12) {
                    let content = self.content("tool");
                    messages.push(
                        json!({"role": "tool", "tool_call_id": id, "content": content, "is_error": self.one_in(4)}),
                    );
                }
                if self.one_in(6) {
                    messages.push(json!({"role": "user", "content": self.content("user")}));
                }
            }
        }
        messages.into()
    }

    fn request(&mut self, model: &str) -> Value {
        let mut request = Map::new();
        request.insert("model".to_owned(), format!("bedrock/{model}").into());
        request.insert("messages".to_owned(), self.messages());
        let tool =
            |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
        let named = |name: &str| json!({"type": "function", "function": {"name": name}});
        let schema = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}});
        for (name, values) in [
            ("tools", vec![json!([tool("f")]), json!([tool("f"), tool("g")]), json!([])]),
            ("tool_choice", vec![json!("auto"), json!("none"), json!("required"), named("f"), named("g")]),
            ("parallel_tool_calls", vec![json!(true), json!(false)]),
            ("temperature", vec![json!(0), json!(0.7), json!(1), json!(1.7)]),
            ("top_p", vec![json!(0.5), json!(1)]),
            ("top_k", vec![json!(1), json!(40)]),
            ("max_tokens", vec![json!(1), json!(5000)]),
            ("stop", vec![json!("x"), json!(["a", "b"]), json!("\n")]),
            ("reasoning_effort", vec![json!("none"), json!("low"), json!("max")]),
            ("response_format", vec![json!({"type": "text"}), json!({"type": "json_object"}), schema]),
            ("cache_control", vec![json!({"type": "ephemeral", "ttl": "1h"})]),
            ("service_tier", vec![json!("auto"), json!("flex")]),
            ("presence_penalty", vec![json!(0), json!(1)]),
            ("user", vec![json!("me")]),
        ] {
            if self.one_in(5) {
                request.insert(name.to_owned(), self.pick(&values));
            }
        }
        request.into()
    }
}

#[tokio::test]
async fn no_request_is_sent_that_the_service_refuses() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    let mut client = Client(ChaCha8Rng::seed_from_u64(20_261_120));
    for (model, rules) in models() {
        stub.set_rules(model, rules);
        app.post("/configure", &document(json!({"model": format!("bedrock/{model}")}))).await.ok();
        let mut taken = 0;
        for _ in 0..ROUNDS {
            let request = client.request(model);
            let before = stub.requests().len();
            let answer = app.post("/v1/chat/completions", &request).await;
            let seen = stub.requests().split_off(before);
            match seen.as_slice() {
                [] => assert_eq!(answer.status, 400, "{request}\n{}", answer.text),
                [seen] => assert_eq!(seen.refused, None, "{request}\n{}", seen.json()),
                seen => panic!("{request} made {} calls", seen.len()),
            }
            if let [_] = seen.as_slice() {
                assert_eq!(answer.status, 200, "{request}\n{}", answer.text);
                taken += 1;
            }
        }
        assert!((ROUNDS / 10..ROUNDS).contains(&taken), "{model}: {taken} were taken");
    }
}
