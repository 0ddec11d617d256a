//! The examples of docs/providers.md: every document configures as it stands and without a warning, and the question
//! after it is answered by the server that it leads to, under its name there and with the key that the page speaks of.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use itsd::config::provider::ProviderName;
use serde_json::{Value, json};

use crate::app::{TestApp, spawn_app_in};
use crate::bedrock_stub::{ACCESS_KEY_ID, BedrockStub, Control, SECRET_ACCESS_KEY};
use crate::upstream::{Profile, Seen, Upstream};

/// Variables of the page that hold no key of a provider's own.
const OTHERS: [(&str, &str); 4] = [
    ("AZURE_AUTHORIZATION", "Bearer entra-0123456789"),
    ("GEMINI_API_KEY", "gemini-key"),
    ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
    ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
];

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/providers.md")).unwrap()
}

/// The `json` blocks of the page: each document with the questions that follow it.
fn examples(page: &str) -> Vec<(Value, Vec<Value>)> {
    let mut examples: Vec<(Value, Vec<Value>)> = Vec::new();
    for block in page.split("```json\n").skip(1) {
        let (text, _) = block.split_once("```").expect("a block ends");
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        match value.get("messages") {
            Some(_) => examples.last_mut().expect("a document comes first").1.push(value),
            None => examples.push((value, Vec::new())),
        }
    }
    examples
}

/// The key that the environment of a test has for a provider.
fn key(provider: ProviderName) -> String {
    format!("key-of-{}", provider.as_str())
}

/// A server of its kind for every provider.
async fn upstreams() -> BTreeMap<ProviderName, Upstream> {
    let mut upstreams = BTreeMap::new();
    for provider in ProviderName::ALL {
        let profile: Profile = match provider {
            // Bedrock speaks another protocol, and has a stub of its own.
            ProviderName::Llama | ProviderName::LiteLlm | ProviderName::Bedrock => continue,
            // Google's is the example of the page.
            ProviderName::OpenAiCompatible => Profile::GeminiCompatible,
            provider => provider.as_str().parse().unwrap(),
        };
        upstreams.insert(provider, Upstream::with_profile(profile).await);
    }
    upstreams
}

/// A daemon in whose environment every provider's first variable for a key is set, and that for an address where
/// there is a server for it.
async fn app(upstreams: &BTreeMap<ProviderName, Upstream>, more: Option<(&str, String)>) -> TestApp {
    let mut variables: Vec<(&str, String)> = OTHERS.map(|(name, value)| (name, value.to_owned())).into();
    for provider in ProviderName::ALL.into_iter().filter(|provider| *provider != ProviderName::LiteLlm) {
        let Some(defaults) = provider.remote_defaults() else { continue };
        variables.extend(defaults.key_variables.first().map(|name| (*name, key(provider))));
        if let (Some(upstream), Some(name)) = (upstreams.get(&provider), defaults.base_url_variables.first()) {
            variables.push((name, upstream.base_url()));
        }
    }
    variables.extend(more);
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    spawn_app_in(Arc::new(tempfile::tempdir().unwrap()), &variables, |_| {}).await
}

#[tokio::test]
async fn every_document_is_accepted_as_it_stands_and_without_a_warning() {
    let app = app(&BTreeMap::new(), None).await;
    for (document, _) in examples(&page()) {
        let told = app.post("/configure?validate_only=true", &document).await.ok();
        assert_eq!(told["warnings"], json!([]), "{document}");
    }
}

#[tokio::test]
async fn every_question_is_answered_by_the_server_that_its_document_leads_to() {
    let upstreams = upstreams().await;
    let app = app(&upstreams, None).await;
    for (mut document, questions) in examples(&page()) {
        let named = ProviderName::parse("provider", &document["provider"]).unwrap();
        let model = document["model"].as_str().unwrap().to_owned();
        let (provider, model) = named.resolve(&model).unwrap();
        let Some(upstream) = upstreams.get(&provider) else { continue };
        // A server of the test's stands where the page names an address.
        if let Some(endpoint) = document["endpoint"].as_str() {
            let path =
                if provider == ProviderName::Azure && endpoint.ends_with("/openai/v1") { "/openai/v1" } else { "" };
            document["endpoint"] = json!(format!("{}{path}", upstream.base_url()));
        }
        app.post("/configure", &document).await.ok();
        for question in questions {
            let before = upstream.seen().len();
            let answer = app.post("/v1/chat/completions", &question).await;
            match question["stream"] == true {
                true => assert!(!answer.events().is_empty(), "{question}"),
                false => drop(answer.ok()),
            }
            let calls = upstream.seen().split_off(before);
            assert!(!calls.is_empty(), "{question}");
            for call in calls {
                assert_eq!(call.json()["model"], model, "{document}");
                check_credentials(&call, provider, &document);
                check_extra(&call, &document);
            }
        }
    }
}

#[tokio::test]
async fn every_question_to_bedrock_is_asked_of_its_model_as_whom_the_document_says() {
    let stub = BedrockStub::start().await;
    let bearer_keys = Some(vec![key(ProviderName::Bedrock)]);
    stub.control(Control { bearer_keys, ..Control::default() });
    let app = app(&BTreeMap::new(), Some(("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", stub.url()))).await;
    let mut asked = 0;
    for (document, questions) in examples(&page()) {
        let named = ProviderName::parse("provider", &document["provider"]).unwrap();
        let (provider, model) = named.resolve(document["model"].as_str().unwrap()).unwrap();
        if provider != ProviderName::Bedrock {
            continue;
        }
        app.post("/configure", &document).await.ok();
        for question in questions {
            let before = stub.requests().len();
            app.post("/v1/chat/completions", &question).await.ok();
            let calls = stub.requests().split_off(before);
            let signs = document["extra_args"].get("aws_access_key_id").is_some();
            for call in &calls {
                assert_eq!(call.refused, None, "{question}");
                assert_eq!(call.key_id.as_deref() == Some(ACCESS_KEY_ID), signs, "{document}");
            }
            assert_eq!(calls[0].model_id, model, "{document}");
            asked += 1;
        }
    }
    assert!(asked >= 2, "there are examples");
}

fn check_credentials(call: &Seen, provider: ProviderName, document: &Value) {
    let own = key(provider);
    let (bearer, api_key) = match provider {
        ProviderName::Azure => (None, Some(own)),
        ProviderName::OpenAiCompatible => (Some("Bearer gemini-key".to_owned()), None),
        _ => (Some(format!("Bearer {own}")), None),
    };
    assert_eq!(call.request.header("authorization"), bearer.as_deref(), "{document}");
    assert_eq!(call.request.header("api-key"), api_key.as_deref(), "{document}");
}

/// What the document adds to every call arrives with it.
fn check_extra(call: &Seen, document: &Value) {
    let Some(extra) = document["extra_args"].as_object() else { return };
    for (name, value) in extra {
        if name != "headers" {
            assert_eq!(call.json()[name], *value, "{document}");
            continue;
        }
        for (name, value) in value.as_object().unwrap() {
            assert_eq!(call.request.header(&name.to_ascii_lowercase()), value.as_str(), "{document}");
        }
    }
}

#[test]
fn the_page_has_every_provider_with_its_address_and_variables_and_every_prefix() {
    let page = page();
    let documented: Vec<Value> =
        examples(&page).into_iter().map(|(document, _)| document["provider"].clone()).collect();
    for provider in ProviderName::ALL {
        let Some(defaults) = provider.remote_defaults() else { continue };
        let name = provider.as_str();
        assert!(documented.iter().any(|word| word == name), "{name} has no example");
        if provider == ProviderName::LiteLlm {
            continue;
        }
        let row =
            page.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap_or_else(|| panic!("{name}"));
        let told = |values: &[&str]| values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
        let address = defaults.base_url.map_or("none".to_owned(), |address| format!("`{address}`"));
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let expected = [format!("`{name}`"), address, told(defaults.base_url_variables), told(defaults.key_variables)];
        assert_eq!(cells, expected);
    }
    let prefixes = page.split("## LiteLLM's prefixes").nth(1).unwrap().lines().filter(|line| line.starts_with("| `"));
    let mut read = 0;
    for line in prefixes {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let (prefixes, provider) = (cells.next().unwrap(), cells.next().unwrap().trim_matches('`'));
        for prefix in prefixes.split('`').filter(|text| text.ends_with('/')) {
            let name = format!("{prefix}some-model");
            let (chosen, model) = ProviderName::LiteLlm.resolve(&name).unwrap();
            assert_eq!((chosen.as_str(), model), (provider, "some-model"), "{prefix}");
            read += 1;
        }
    }
    // Two of Azure's are more than prefixes, and so is one of Bedrock's.
    assert_eq!(read, ProviderName::prefixes().count() + 3);
}
