//! The paths: what each operation takes and with which statuses it answers.

use serde_json::{Map, Value, json};

use crate::config::run::{AlgorithmName, RewardName};
use crate::config::{capabilities, schema};

use super::{examples, reference};
use examples::Example;

const JSON: &str = "application/json";

/// Statuses that every operation with a body may answer with.
const WITH_BODY: [u16; 4] = [400, 403, 413, 415];
/// Statuses of a run besides those.
const OF_A_RUN: [u16; 8] = [404, 412, 429, 499, 500, 502, 503, 504];

pub fn paths() -> Value {
    json!({
        "/v1/chat/completions": {"post": chat("createChatCompletion", "Chat, scaled.", &[])},
        "/v1/{algorithm}/chat/completions": {
            "post": chat("createChatCompletionByAlgorithm", "Chat by the algorithm of the path.", &[algorithm()])
        },
        "/v1/{algorithm}/{scorer}/chat/completions": {
            "post": chat(
                "createChatCompletionByAlgorithmAndScorer",
                "Chat by the algorithm and the scorer of the path.",
                &[algorithm(), scorer()],
            )
        },
        "/v1/completions": {"post": text_completion()},
        "/v1/chat/cancel/{request_id}": {"post": cancel()},
        "/v1/models": {"get": operation("models", "listModels", "The names that requests may use.", &[], &[403])
            .answers(200, "The models, the active one first.", JSON, "Models")},
        "/v1/models/{id}": {"get": operation(
            "models", "retrieveModel", "One of them.",
            &[path("id", json!({"type": "string", "minLength": 1}), "The name; it may hold slashes.")],
            &[403, 404],
        )
        .answers(200, "The model.", JSON, "Model")},
        "/configure": {"get": show(), "post": configure(), "patch": patch()},
        "/configure/history": {"get": history()},
        "/configure/rollback": {"post": roll_back()},
        "/health": {"get": operation("operation", "health", "Whether the process answers; touches nothing.", &[], &[403])
            .answers(200, "It does.", JSON, "Health")},
        "/ready": {"get": operation("operation", "ready", "Whether chat requests will be answered.", &[], &[403])
            .answers(200, "They will.", JSON, "Readiness")
            .answers(503, "They will not, and why.", JSON, "Readiness")},
        "/metrics": {"get": operation("operation", "metrics", "What the daemon counts, for Prometheus.", &[], &[403])
            .about("OpenMetrics where `Accept` prefers that, else Prometheus' older text.")
            .answers_with(200, "The counters as they stand.", "text/plain", json!({"type": "string"}))
            .answers_with(200, "The counters as they stand.", "application/openmetrics-text", json!({"type": "string"}))},
        "/openapi.json": {"get": operation("operation", "openapi", "This document.", &[], &[403])
            .answers_with(200, "An OpenAPI 3.1 document.", JSON, json!({"type": "object"}))},
        "/docs": {"get": operation("operation", "docs", "This document as a page.", &[], &[403])
            .answers_with(200, "The page.", "text/html", json!({"type": "string"}))},
    })
}

/// Building an operation in the order in which it is read.
trait Operation {
    fn answers(self, status: u16, description: &str, media_type: &str, schema: &str) -> Self;
    fn answers_with(self, status: u16, description: &str, media_type: &str, schema: Value) -> Self;
    fn takes(self, media_types: &[&str], schema: Value, examples: Vec<Example>) -> Self;
    fn header(self, status: u16, name: &str, description: &str) -> Self;
    fn about(self, description: &str) -> Self;
}

impl Operation for Value {
    fn answers(self, status: u16, description: &str, media_type: &str, schema: &str) -> Self {
        self.answers_with(status, description, media_type, reference(schema))
    }

    fn answers_with(mut self, status: u16, description: &str, media_type: &str, schema: Value) -> Self {
        let response = &mut self["responses"][status.to_string()];
        response["description"] = description.into();
        response["content"][media_type] = json!({"schema": schema});
        self
    }

    fn takes(mut self, media_types: &[&str], schema: Value, examples: Vec<Example>) -> Self {
        let examples: Map<String, Value> = examples
            .into_iter()
            .map(|(name, summary, value)| (name.to_owned(), json!({"summary": summary, "value": value})))
            .collect();
        let content: Map<String, Value> = media_types
            .iter()
            .map(|media_type| ((*media_type).to_owned(), json!({"schema": schema, "examples": examples})))
            .collect();
        self["requestBody"] = json!({"required": true, "content": content});
        self
    }

    fn header(mut self, status: u16, name: &str, description: &str) -> Self {
        self["responses"][status.to_string()]["headers"][name] =
            json!({"description": description, "schema": {"type": "string"}});
        self
    }

    fn about(mut self, description: &str) -> Self {
        self["description"] = description.into();
        self
    }
}

fn operation(tag: &str, name: &str, summary: &str, parameters: &[Value], errors: &[u16]) -> Value {
    let mut responses = Map::new();
    for status in errors {
        let mut response = json!({
            "description": meaning(*status),
            "content": {JSON: {"schema": reference("Error")}},
        });
        if matches!(status, 429 | 503) {
            response["headers"]["Retry-After"] =
                json!({"description": "Whole seconds after which it may go better.", "schema": {"type": "string"}});
        }
        responses.insert(status.to_string(), response);
    }
    json!({"tags": [tag], "operationId": name, "summary": summary, "parameters": parameters, "responses": responses})
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "Malformed, unknown, of the wrong type or out of range; `param` names what, the message what to change.",
        403 => "The `Host` header is none of this service's names, or the configuration does not allow a header.",
        404 => "There is no such model, revision or request.",
        412 => "Another revision is active than `If-Match` or `revision` says.",
        413 => "The body is too large.",
        415 => "The body is not declared as JSON, or in an encoding that is not known.",
        429 => "The queue is full, or the provider's rate limit is reached.",
        499 => "The request was cancelled.",
        500 => "A defect of this service; the log has the cause under the request id.",
        502 => "Every candidate failed upstream; where a configuration is set, the endpoint could not be asked.",
        503 => "No configuration is active, or the service cannot answer at present.",
        504 => "The deadline passed before there was an answer.",
        _ => unreachable!("every status that is used has a meaning"),
    }
}

fn path(name: &str, schema: Value, description: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": schema, "description": description})
}

fn query(name: &str, schema: Value, description: &str) -> Value {
    json!({"name": name, "in": "query", "schema": schema, "description": description})
}

fn header(name: &str, schema: Value, description: &str) -> Value {
    json!({"name": name, "in": "header", "schema": schema, "description": description})
}

fn algorithm() -> Value {
    path("algorithm", schema::words(AlgorithmName::WORDS), "The algorithm; `-` and `_` are the same.")
}

fn scorer() -> Value {
    path("scorer", schema::words(RewardName::WORDS), "What scores the candidates, as `rm_name`.")
}

fn chat(name: &str, summary: &str, of_the_path: &[Value]) -> Value {
    let mut parameters = of_the_path.to_vec();
    parameters.extend([
        query(
            "strict",
            json!({"type": "boolean", "default": false}),
            "Refuse unknown fields instead of forwarding them.",
        ),
        header(
            "X-ITS-Budget",
            json!({"type": "integer", "minimum": 1, "maximum": 1000}),
            "Wins over the body's `budget`.",
        ),
    ]);
    parameters.extend(of_its_own());
    let errors: Vec<u16> = WITH_BODY.into_iter().chain(OF_A_RUN.into_iter().filter(|status| *status != 412)).collect();
    let mut operation = operation("chat", name, summary, &parameters, &errors)
        .about(
            "OpenAI's chat completions: every parameter is taken, passed on, translated or refused by name. \
             With `stream` the answer is a stream of OpenAI's chunks, with comments while candidates are under way.",
        )
        .takes(&[JSON], reference("ChatRequest"), examples::chat())
        .answers(200, "The winning answer.", JSON, "ChatCompletion")
        .answers_with(200, "The winning answer.", "text/event-stream", chat_event());
    for (name, description) in [
        ("x-its-algorithm", "The algorithm that ran."),
        ("x-its-revision", "The configuration's revision."),
        ("x-its-candidates", "Candidates that completed, of a search maybe more than `budget`; not on every stream."),
        ("x-its-agreement", "The winner's share of the votes, where there was a vote; not on every stream."),
        ("x-its-stop", "Why the run ended; not on every stream."),
        ("x-its-warnings", "What the reader might not expect, where there is anything."),
    ] {
        operation = operation.header(200, name, description);
    }
    for status in ["429", "502", "504"] {
        operation["responses"][status]["headers"]["x-should-retry"] = json!({
            "description": "`false` where the request has already cost something.", "schema": {"type": "string"}
        });
    }
    operation
}

/// What a request may bring of its own, where the configuration allows it.
fn of_its_own() -> [Value; 2] {
    let text = || json!({"type": "string", "minLength": 1});
    [
        header(
            "X-ITS-Endpoint",
            text(),
            "An address for this request, which gets nothing that is configured; needs `allow_request_endpoint`.",
        ),
        header(
            "X-ITS-API-Key",
            text(),
            "An upstream key for this request, as it stands; needs `allow_request_endpoint`.",
        ),
    ]
}

fn text_completion() -> Value {
    let strict = query(
        "strict",
        json!({"type": "boolean", "default": false}),
        "Refuse unknown fields instead of forwarding them.",
    );
    let [endpoint, key] = of_its_own();
    let errors: Vec<u16> =
        WITH_BODY.into_iter().chain(OF_A_RUN.into_iter().filter(|status| !matches!(status, 412 | 499))).collect();
    operation("chat", "createCompletion", "Raw text, continued by one call.", &[strict, endpoint, key], &errors)
        .about(
            "OpenAI's legacy completions, never scaled. A remote provider gets the request as it came; the engine in \
             this process continues texts without a chat template.",
        )
        .takes(&[JSON], reference("TextRequest"), examples::text())
        .answers(200, "The continuations.", JSON, "TextCompletion")
        .answers_with(200, "The continuations.", "text/event-stream", event("text_completion"))
        .header(200, "x-its-warnings", "What the reader might not expect, where there is anything.")
}

/// One event of a stream.
fn event(object: &str) -> Value {
    let description = format!("A `{object}` object as JSON, an `error` object, or `[DONE]` at the end.");
    json!({
        "type": "object",
        "required": ["data"],
        "properties": {"data": {"type": "string", "description": description}},
    })
}

fn chat_event() -> Value {
    let mut event = event("chat.completion.chunk");
    event["properties"]["data"]["anyOf"] = json!([
        {"const": "[DONE]"},
        {
            "type": "string",
            "contentMediaType": JSON,
            "contentSchema": {"anyOf": [reference("ChatCompletionChunk"), reference("Error")]},
        },
    ]);
    event
}

fn cancel() -> Value {
    let id =
        path("request_id", json!({"type": "string", "minLength": 1}), "The request's `x-request-id` or completion id.");
    operation("chat", "cancelChatCompletion", "Ends a running request with all of its calls.", &[id], &[403, 404])
        .about(
            "Its client is answered with the status 499, or with an error event where a stream has begun. Where several \
             running requests have the id, all of them end.",
        )
        .answers(200, "The order is given.", JSON, "Cancelled")
}

fn show() -> Value {
    operation("configuration", "showConfiguration", "The active configuration.", &[], &[403, 503])
        .about("Secrets are shown as references or fingerprints; sent back unchanged they keep their stored value.")
        .answers(200, "Its document, revision and hash, and where each value came from.", JSON, "ActiveConfiguration")
        .header(200, "ETag", "The revision, for `If-Match`.")
}

/// How a change may be made.
fn change_parameters() -> Vec<Value> {
    vec![
        query(
            "validate_only",
            json!({"type": "boolean", "default": false}),
            "Build everything, and change nothing: `message` says so, and `revision` is the active one.",
        ),
        header(
            "If-Match",
            json!({"type": "string", "pattern": "^(\\*|\"[0-9]{1,18}\"|[0-9]{1,18})$"}),
            "The revision that must be active, in quotes; `*` takes any.",
        ),
    ]
}

/// Whether the endpoint is asked what it can do.
fn probe() -> Value {
    query(
        "probe",
        json!({"type": "boolean", "default": false}),
        "Ask the endpoint what it can do with the model, in a few small calls, and put what it says into \
         `extra_args.capabilities.models`, where the document does not say it itself.",
    )
}

fn change(name: &str, summary: &str, more: Vec<Value>, errors: &[u16]) -> Value {
    let errors: Vec<u16> = WITH_BODY.into_iter().chain([412, 503]).chain(errors.iter().copied()).collect();
    let parameters: Vec<Value> = change_parameters().into_iter().chain(more).collect();
    operation("configuration", name, summary, &parameters, &errors).answers(
        200,
        "It is active, or would be.",
        JSON,
        "Configured",
    )
}

fn configure() -> Value {
    let about = format!(
        "Replaces it as a whole: a field that is not named has its default. Nothing changes unless everything was valid \
         and could be built. No network call is made unless `probe` asks for it. Requests in flight finish under the \
         configuration that they began with.\n\n\
         ### What is known of the providers\n\n\
         Each cell can be set by its column's name in `extra_args.capabilities`, and for one model in its `models`; `?` is \
         what nobody knows.\n\n{}",
        capabilities::markdown()
    );
    change("configure", "Sets the active configuration.", vec![probe()], &[502]).about(&about).takes(
        &[JSON],
        reference("Configuration"),
        examples::configure(),
    )
}

fn patch() -> Value {
    change("patchConfiguration", "Changes the active configuration.", vec![probe()], &[502])
        .about("A JSON merge patch (RFC 7396): null takes a field away, what is not mentioned stays, secrets included.")
        .takes(&["application/merge-patch+json", JSON], reference("ConfigurationPatch"), examples::patch())
}

fn history() -> Value {
    let parameters = [
        query("limit", json!({"type": "integer", "minimum": 1, "maximum": 100, "default": 20}), "Revisions at most."),
        query(
            "before",
            json!({"type": "integer", "minimum": 0, "maximum": i64::MAX}),
            "Only revisions of lower numbers.",
        ),
    ];
    operation("configuration", "listRevisions", "Past revisions, newest first.", &parameters, &[400, 403, 503]).answers(
        200,
        "Each with its document as GET /configure would show it.",
        JSON,
        "History",
    )
}

fn roll_back() -> Value {
    let schema = json!({
        "type": "object",
        "required": ["revision"],
        "properties": {"revision": {"type": "integer", "minimum": 0, "maximum": i64::MAX}},
        "additionalProperties": false,
    });
    change("rollBackConfiguration", "Makes a past revision's content a new revision.", Vec::new(), &[404])
        .about("Secrets included. A revision that cannot be prepared any more is a 400 that says why.")
        .takes(&[JSON], schema, examples::roll_back())
}
