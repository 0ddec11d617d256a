//! The description of the interface: complete, true, and readable without the internet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use crate::app::{document, spawn_app, spawn_app_for};
use crate::upstream::{Call, Step, Upstream};

/// Routes that serve the page about the routes.
const OF_THE_PAGE: [&str; 2] = ["/docs/", "/docs/{file}"];

#[tokio::test]
async fn every_route_with_its_methods_is_described_and_nothing_else() {
    let app = spawn_app().await;
    let described = app.get("/openapi.json").await;
    assert_eq!(described.header("content-type"), Some("application/json"));
    let described = described.ok();
    assert_eq!(described["openapi"], "3.1.0");
    assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
    let described: BTreeMap<String, BTreeSet<String>> = described["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, methods)| (path.clone(), methods.as_object().unwrap().keys().map(|m| m.to_uppercase()).collect()))
        .collect();
    assert_eq!(described, routes());
}

/// The routes as the one place where they are says them: `resource("/path", "GET, POST")`.
fn routes() -> BTreeMap<String, BTreeSet<String>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/mod.rs");
    let source = std::fs::read_to_string(file).unwrap();
    let mut routes = BTreeMap::new();
    for call in source.split("resource(").skip(1) {
        let mut texts = call.split('"').skip(1).step_by(2);
        let (Some(path), Some(methods)) = (texts.next(), texts.next()) else { continue };
        if path.starts_with('/') && !OF_THE_PAGE.contains(&path) {
            let methods = methods.split(", ").filter(|method| *method != "HEAD").map(str::to_owned).collect();
            routes.insert(path.replace(":.+}", "}"), methods);
        }
    }
    assert!(routes.len() > 5, "the routes were not found");
    routes
}

#[tokio::test]
async fn the_page_loads_everything_from_the_daemon() {
    let app = spawn_app().await;
    let page = app.get("/docs").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'self'"));
    let addresses: Vec<_> = page
        .text
        .split(['"', '\''])
        .filter(|text| text.starts_with("docs/") || text.contains("//") || text.starts_with('/'))
        .collect();
    assert_eq!(addresses.len(), 4, "{addresses:?}");
    for address in addresses {
        let file = app.client.get(app.url(&format!("/{address}"))).send().await.unwrap();
        assert_eq!(file.status(), 200, "{address}");
        let media_type = file.headers()["content-type"].to_str().unwrap().to_owned();
        let kind = if address.ends_with(".css") {
            "text/css"
        } else if address.ends_with(".js") {
            "text/javascript"
        } else {
            "image/"
        };
        assert!(media_type.starts_with(kind), "{address}: {media_type}");
        assert!(!file.bytes().await.unwrap().is_empty());
    }
    assert!(app.get("/docs/start.js").await.text.contains("\"openapi.json\""));
    assert_eq!(app.get("/docs/").await.status, 200, "the client was led to the page");
    for wrong in ["/docs/nothing.js", "/docs/..%2fmod.rs"] {
        app.get(wrong).await.error(404);
    }
}

#[tokio::test]
async fn what_comes_back_is_what_the_description_says() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 2, "api_key": "sk-literal-0123456789"})).await;
    let described = app.get("/openapi.json").await.ok();
    let check = |schema: &str, value: &Value| {
        let mut whole = json!({"$ref": format!("#/components/schemas/{schema}")});
        whole["components"] = described["components"].clone();
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        let errors: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{schema}: {errors:?} in {value}");
    };
    check("ActiveConfiguration", &app.get("/configure").await.ok());
    check("Configuration", &app.get("/configure").await.ok());
    check("Configuration", &document(&upstream, json!({"budget": 3})));
    check("Configured", &app.configure(&upstream, json!({"budget": 3})).await);
    check("History", &app.get("/configure/history").await.ok());
    check("Models", &app.get("/v1/models").await.ok());
    check("Model", &app.get("/v1/models/scripted").await.ok());
    check("Health", &app.get("/health").await.ok());
    check("Readiness", &app.get("/ready").await.ok());
    check("ChatCompletion", &app.chat(json!({"return_response_only": false})).await.ok());
    for fields in [
        json!({"alg": "self-consistency", "vote_weight": "confidence"}),
        json!({"alg": "best-of-n", "rm_name": "entropy"}),
        json!({"alg": "wait"}),
        json!({"alg": "mixture-of-n"}),
        json!({"alg": "none"}),
        json!({"tts_strategy": "offline_bon", "num_paths": 2}),
        json!({"tts_strategy": "self_consistency", "num_paths": 2}),
    ] {
        let mut told = fields;
        told["return_response_only"] = json!(false);
        check("ChatCompletion", &app.chat(told.clone()).await.ok());
        told["stream"] = json!(true);
        told["stream_options"] = json!({"include_progress": true, "include_usage": true});
        for chunk in app.chat(told).await.events() {
            check("ChatCompletionChunk", &chunk);
        }
    }
    // Of three candidates one fails and one cannot vote.
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let call = |arguments: &str| Step {
        tool_calls: vec![Call { id: None, name: "f".to_owned(), arguments: arguments.to_owned() }],
        ..Step::default()
    };
    upstream.push(Step::status(500, "{}"));
    upstream.push(call("{broken"));
    upstream.push(call("{}"));
    let failed = json!({"budget": 3, "tools": tools, "return_response_only": false, "stop_rule": "none"});
    let failed = app.chat(failed).await.ok();
    for told in ["failures", "set_aside"] {
        assert_eq!(failed["metadata"][told].as_array().unwrap().len(), 1, "{failed}");
    }
    check("ChatCompletion", &failed);
    check("Error", &app.chat(json!({"budget": 0})).await.json());
    check("ChatRequest", &crate::app::question(json!({"budget": 3, "temperature": 0.5, "anything": true})));
}
