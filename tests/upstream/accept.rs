//! Which requests a server takes: its paths, the key it asks for, the fields it refuses.

use serde_json::Value;

use super::profile::{Key, LogprobShape, Profile, Quirks, Several};
use super::refusal::Refusal;
use super::wire::Request;

/// What a path leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum Route {
    /// Azure names the deployment here instead of in the body.
    Chat {
        deployment: Option<String>,
    },
    Text {
        deployment: Option<String>,
    },
    Models,
    Control,
    Unknown,
}

const DEPLOYMENTS: &str = "/openai/deployments/";

/// Where a request leads.
pub fn route(profile: Profile, request: &Request) -> Route {
    let quirks = profile.quirks();
    if request.path() == "/control" {
        return Route::Control;
    }
    // Azure has two addresses, and whoever tests only what is sent there needs nothing else of it.
    let has_azures = matches!(profile, Profile::Azure | Profile::Plain);
    let path = request.path();
    let of_deployment = path.strip_prefix(DEPLOYMENTS).filter(|_| has_azures).and_then(|path| path.split_once('/'));
    let (deployment, rest) = match of_deployment {
        Some((deployment, _)) if !deployment.is_empty() => {
            (Some(deployment.to_owned()), &path[DEPLOYMENTS.len() + deployment.len()..])
        }
        _ => {
            let of_resource = path.strip_prefix("/openai/v1").filter(|_| has_azures);
            match of_resource.or_else(|| path.strip_prefix(quirks.base_path)) {
                Some(rest) => (None, rest),
                None => return Route::Unknown,
            }
        }
    };
    match (request.method.as_str(), rest) {
        ("POST", "/chat/completions") => Route::Chat { deployment },
        ("POST", "/completions") => Route::Text { deployment },
        ("GET", "/models") => Route::Models,
        _ => Route::Unknown,
    }
}

/// Looks at what comes before the body: the key, and the query that Azure asks for.
///
/// # Errors
///
/// The refusal of a request without a key, or with one that holds the word `wrong`.
pub fn check_head(profile: Profile, request: &Request) -> Result<(), Refusal> {
    let quirks = profile.quirks();
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let key = match quirks.key {
        Key::None => return Ok(()),
        Key::Bearer => bearer,
        // A token of Azure's directory goes where others have their keys; a key does so only without a deployment.
        Key::Header => {
            let takes_any = !request.path().starts_with(DEPLOYMENTS);
            request.header("api-key").or_else(|| bearer.filter(|token| takes_any || token.starts_with("eyJ")))
        }
    };
    if key.is_none_or(|key| key.is_empty() || key.contains("wrong")) {
        return Err(match quirks.key {
            Key::Header => Refusal {
                message: "Access denied due to invalid subscription key or wrong API endpoint.".to_owned(),
                ..Refusal::of_status(401)
            },
            _ => Refusal::of_status(401),
        });
    }
    let needs_version = profile == Profile::Azure && request.path().starts_with(DEPLOYMENTS);
    if needs_version && !request.query().split('&').any(|pair| pair.starts_with("api-version=20")) {
        return Err(Refusal { code: None, message: "Resource not found".to_owned(), ..Refusal::of_status(404) });
    }
    Ok(())
}

/// Looks at the fields of a body that OpenAI would take.
///
/// # Errors
///
/// The refusal of what this server does not know.
pub fn check_fields(profile: Profile, model: &str, body: &Value) -> Result<(), Refusal> {
    let quirks = profile.quirks();
    let is_set = |name: &str| body.get(name).is_some_and(|value| !value.is_null());
    if let Some(known) = quirks.only_fields
        && let Some(name) =
            body.as_object().and_then(|fields| fields.keys().find(|name| !known.contains(&name.as_str())))
    {
        return Err(unknown_field(profile, name));
    }
    check_reasoning(&quirks, model, body)?;
    if quirks.n == Several::Refused && body["n"].as_u64().is_some_and(|n| n > 1) {
        let message = match profile {
            Profile::OldLlamaServer => "Only one completion choice is allowed",
            _ => "'n' : number must be at most 1",
        };
        return Err(Refusal::invalid(Some("n"), None, message));
    }
    if quirks.logprobs == LogprobShape::Refused {
        for name in ["logprobs", "top_logprobs", "logit_bias"] {
            if is_set(name) {
                let message = format!("`{name}` is not supported with this model");
                return Err(Refusal::invalid(Some(name), None, &message));
            }
        }
        let named = body["messages"].as_array().into_iter().flatten().position(|message| message.get("name").is_some());
        if let Some(at) = named {
            let message = format!("'messages.{at}' : property 'name' is unsupported");
            return Err(Refusal::invalid(Some("messages"), None, &message));
        }
    }
    if !quirks.takes_json_object && body["response_format"]["type"] == "json_object" {
        let message = "'response_format.type' must be 'json_schema' or 'text'";
        return Err(Refusal::invalid(Some("response_format"), None, message));
    }
    let choice = &body["tool_choice"];
    if !quirks.forces_tools && is_set("tool_choice") && choice != "auto" && choice != "none" {
        let message = "tool_choice: only `auto` and `none` are supported";
        return Err(Refusal::invalid(Some("tool_choice"), None, message));
    }
    Ok(())
}

/// What models that think first refuse.
fn check_reasoning(quirks: &Quirks, model: &str, body: &Value) -> Result<(), Refusal> {
    if !quirks.reasoning_families.iter().any(|family| model.starts_with(family)) {
        return Ok(());
    }
    let refused = |name: &str, code: &str, message: &str| Err(Refusal::invalid(Some(name), Some(code), message));
    if !body["max_tokens"].is_null() {
        let message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
        return refused("max_tokens", "unsupported_parameter", message);
    }
    for name in ["temperature", "top_p"] {
        if body[name].as_f64().is_some_and(|value| value != 1.0) {
            let value = &body[name];
            let message = format!(
                "Unsupported value: '{name}' does not support {value} with this model. Only the default (1) value is supported."
            );
            return refused(name, "unsupported_value", &message);
        }
    }
    for name in ["presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs"] {
        let value = &body[name];
        if !value.is_null() && value != false && value.as_f64() != Some(0.0) {
            let message = format!("Unsupported parameter: '{name}' is not supported with this model.");
            return refused(name, "unsupported_parameter", &message);
        }
    }
    Ok(())
}

fn unknown_field(profile: Profile, name: &str) -> Refusal {
    let message = match profile {
        Profile::Groq => format!("property '{name}' is unsupported"),
        Profile::GeminiCompatible => {
            format!("Invalid JSON payload received. Unknown name \"{name}\": Cannot find field.")
        }
        _ => format!("Unrecognized request argument supplied: {name}"),
    };
    Refusal::invalid(None, None, &message)
}
