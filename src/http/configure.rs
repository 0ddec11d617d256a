//! `POST`, `PATCH` and `GET /configure`: setting the active configuration, changing it, and reading it back.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, ETAG, IF_MATCH};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::origin;
use crate::failure::FailureKind;
use crate::runtime::{ConfigureError, ConfigureOptions, Configured, Probe};

use super::AppState;
use super::body::JsonBody;
use super::error::ApiError;
use super::fields::{check_model, unreadable};
use super::query::QueryFields;

#[derive(Serialize)]
struct Accepted {
    status: &'static str,
    message: String,
    revision: i64,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<Probed>,
}

/// What the endpoint has said of itself.
#[derive(Serialize)]
struct Probed {
    calls: usize,
    found: Map<String, Value>,
    differs: BTreeMap<String, Differs>,
    kept: Vec<String>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Differs {
    known: Value,
    found: Value,
}

/// Sets the active configuration to the document of the body.
///
/// # Cancel safety
///
/// A client that goes away does not undo what it asked for: the change is made whole or not at all. It is not made
/// while the endpoint is still being asked what it can do.
pub async fn replace(state: Data<AppState>, request: HttpRequest, body: JsonBody) -> Result<HttpResponse, ApiError> {
    let mut document = object(&body.0)?;
    check_model_of(&document)?;
    let options = options(&request, basis(&mut document)?, true)?;
    Ok(accepted(state.runtime.configure(document, options).await?))
}

/// Applies the body, a JSON merge patch (RFC 7396), to the active configuration: null takes a field away, what
/// is not mentioned stays.
///
/// # Cancel safety
///
/// As for [`replace`].
pub async fn patch(state: Data<AppState>, request: HttpRequest, body: JsonBody) -> Result<HttpResponse, ApiError> {
    let mut patch = object(&body.0)?;
    check_model_of(&patch)?;
    let options = options(&request, basis(&mut patch)?, true)?;
    Ok(accepted(state.runtime.patch(patch, options).await?))
}

/// Shows the active configuration: its document with secrets as references or fingerprints, and beside the
/// fields `revision`, `content_hash` and, under `origin`, where each value came from.
pub async fn show(state: Data<AppState>) -> Result<HttpResponse, ApiError> {
    let Some(description) = state.runtime.describe() else {
        return Err(ApiError::unavailable("model_error", "no configuration is active yet; POST /configure sets one"));
    };
    let mut body = description.document;
    body.insert("revision".to_owned(), Value::from(description.revision));
    body.insert("content_hash".to_owned(), Value::from(description.content_hash));
    body.insert("origin".to_owned(), Value::from_iter(origin::of_every_field(&description.origins)));
    Ok(HttpResponse::Ok()
        .insert_header((ETAG, format!("\"{}\"", description.revision)))
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(body))
}

/// The answer to every change that was made, or only validated.
pub(super) fn accepted(configured: Configured) -> HttpResponse {
    HttpResponse::Ok().json(Accepted {
        status: "success",
        message: configured.message,
        revision: configured.revision,
        warnings: configured.warnings,
        probe: configured.probe.map(Probed::from),
    })
}

impl From<Probe> for Probed {
    fn from(probe: Probe) -> Self {
        let Probe { calls, found, known, kept, notes } = probe;
        let differs = known.into_iter().map(|(column, known)| {
            let found = found[&column].clone();
            (column, Differs { known, found })
        });
        Self { calls, differs: differs.collect(), found, kept, notes }
    }
}

/// How a change is to be made. `If-Match` wins over the revision that the body names.
pub(super) fn options(
    request: &HttpRequest,
    from_body: Option<i64>,
    may_probe: bool,
) -> Result<ConfigureOptions, ApiError> {
    let known: &[&str] = if may_probe { &["validate_only", "probe"] } else { &["validate_only"] };
    let query = QueryFields::of(request, known)?;
    let if_match = expected_revision(request)?.or(from_body);
    Ok(ConfigureOptions { validate_only: query.flag("validate_only")?, if_match, probe: query.flag("probe")? })
}

pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    serde_json::from_slice(body).map_err(|error| unreadable(&error))
}

fn check_model_of(document: &Map<String, Value>) -> Result<(), ApiError> {
    document.get("model").and_then(Value::as_str).map_or(Ok(()), check_model)
}

/// What `GET` adds to the document. Sent back, `revision` says which one the document was made from, just as
/// `If-Match` does; it implies the hash.
fn basis(document: &mut Map<String, Value>) -> Result<Option<i64>, ApiError> {
    let (hash, origin) = (document.shift_remove("content_hash"), document.shift_remove("origin"));
    if hash.is_some_and(|hash| !hash.is_string() && !hash.is_null()) {
        let message = "`content_hash` must be a string, as GET /configure shows it; leave it out";
        return Err(ApiError::invalid_value("content_hash", message));
    }
    if origin.is_some_and(|origin| !origin.is_object() && !origin.is_null()) {
        let message = "`origin` must be an object, as GET /configure shows it; leave it out";
        return Err(ApiError::invalid_value("origin", message));
    }
    let Some(revision) = document.shift_remove("revision") else { return Ok(None) };
    match revision.as_i64() {
        Some(revision) => Ok(Some(revision)),
        None if revision.is_null() => Ok(None),
        None => Err(ApiError::invalid_value(
            "revision",
            "`revision` must be the number of the revision that the document was made from",
        )),
    }
}

/// The revision of `If-Match`; `None` when there is no such header or it takes any (`*`).
fn expected_revision(request: &HttpRequest) -> Result<Option<i64>, ApiError> {
    let Some(header) = request.headers().get(IF_MATCH) else { return Ok(None) };
    let text = header.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    match number.parse() {
        Ok(revision) => Ok(Some(revision)),
        Err(_) => Err(ApiError::invalid_value("If-Match", "`If-Match` must be one revision in quotes, such as \"3\"")),
    }
}

impl From<ConfigureError> for ApiError {
    fn from(error: ConfigureError) -> Self {
        let message = error.to_string();
        match error {
            ConfigureError::Settings(error) => error.into(),
            ConfigureError::Conflict { .. } | ConfigureError::Overtaken { .. } => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "invalid_request_error",
                Some("revision_conflict"),
                None,
                message,
            ),
            ConfigureError::NotConfigured => Self::unavailable("model_error", message),
            ConfigureError::UnknownRevision { .. } => Self::new(
                StatusCode::NOT_FOUND,
                "invalid_request_error",
                Some("revision_not_found"),
                Some("revision".to_owned()),
                message,
            ),
            ConfigureError::NotPreparable { .. } => Self::invalid_value("revision", message),
            ConfigureError::Probe { param, failure } => {
                let told = Self::from(&failure);
                // What the configuration says is wrong, or else the server is not there for it.
                let (status, kind, code) = match failure.kind {
                    FailureKind::Auth | FailureKind::NotFound | FailureKind::InvalidRequest => {
                        (StatusCode::BAD_REQUEST, "invalid_request_error", Some("invalid_value"))
                    }
                    _ => (StatusCode::BAD_GATEWAY, "upstream_error", told.code),
                };
                let retry_after = told.retry_after;
                Self { retry_after, ..Self::new(status, kind, code, Some(param.to_owned()), message) }
            }
            ConfigureError::Store(_) => {
                tracing::error!(%message, "a configuration could not be recorded");
                Self::unavailable("unavailable", message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use serde_json::json;

    use super::*;

    #[test]
    fn if_match_takes_one_revision_in_quotes() {
        let expected =
            |value: &str| expected_revision(&TestRequest::default().insert_header((IF_MATCH, value)).to_http_request());
        assert_eq!(expected("\"3\"").unwrap(), Some(3));
        assert_eq!(expected("3").unwrap(), Some(3));
        assert_eq!(expected("*").unwrap(), None);
        for wrong in ["", "\"a\"", "\"3\", \"4\"", "W/\"3\""] {
            assert_eq!(expected(wrong).unwrap_err().param.as_deref(), Some("If-Match"), "{wrong}");
        }
    }

    #[test]
    fn a_document_that_was_read_tells_what_it_was_made_from() {
        let mut document =
            json!({"model": "m", "revision": 4, "content_hash": "ab", "origin": {}}).as_object().unwrap().clone();
        assert_eq!(basis(&mut document).unwrap(), Some(4));
        assert_eq!(Value::from(document), json!({"model": "m"}));
        for (wrong, param) in [
            (json!({"revision": "four"}), "revision"),
            (json!({"content_hash": 4}), "content_hash"),
            (json!({"origin": "file"}), "origin"),
            (json!({"origin": []}), "origin"),
        ] {
            let error = basis(&mut wrong.as_object().unwrap().clone()).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{wrong}");
        }
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_without_being_quoted() {
        for body in ["\"sk-secret\"", "[\"sk-secret\"]", "{\"api_key\": \"sk-secret\"", "{\"api_key\": sk-secret}", ""]
        {
            let error = object(body.as_bytes()).unwrap_err();
            assert!(!error.message.contains("secret"), "{}", error.message);
        }
    }
}
