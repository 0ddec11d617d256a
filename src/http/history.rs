//! `GET /configure/history` and `POST /configure/rollback`: what was active before, and the way back to it.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::field;
use crate::runtime::{ConfigureError, PastRevision};

use super::AppState;
use super::body::JsonBody;
use super::configure::{accepted, object, options};
use super::error::ApiError;
use super::query::QueryFields;

/// Revisions that one answer holds at most, and without `limit`.
const MOST: i64 = 100;
const USUAL: u32 = 20;

#[derive(Serialize)]
struct History {
    object: &'static str,
    data: Vec<Entry>,
    has_more: bool,
}

#[derive(Serialize)]
struct Entry {
    revision: i64,
    created_at: String,
    content_hash: String,
    origin: &'static str,
    active: bool,
    document: Map<String, Value>,
}

/// Lists past revisions, newest first, each with its document as `GET /configure` would show it.
///
/// # Errors
///
/// A `limit` outside 1 to 100, or a `before` that is no number of a revision.
pub async fn list(state: Data<AppState>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let query = QueryFields::of(&request, &["limit", "before"])?;
    let limit = query.whole("limit", 1..=MOST)?.map_or(USUAL, |limit| limit as u32);
    // Only revisions of lower numbers.
    let before = query.whole("before", 0..=i64::MAX)?;
    let (revisions, has_more) =
        state.runtime.history(before, limit).await.map_err(|error| ApiError::from(ConfigureError::from(error)))?;
    let data = revisions.into_iter().map(Entry::from).collect();
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(History { object: "list", data, has_more }))
}

/// Makes the content of a past revision, its secrets included, a new revision.
///
/// # Cancel safety
///
/// A client that goes away does not undo what it asked for: the change is made whole or not at all.
pub async fn roll_back(state: Data<AppState>, request: HttpRequest, body: JsonBody) -> Result<HttpResponse, ApiError> {
    let fields = object(&body.0)?;
    if let Some(unknown) = fields.keys().find(|name| *name != "revision") {
        let message = format!("unknown field `{unknown}`; the body is {{\"revision\": N}}");
        return Err(ApiError::bad_request(Some(unknown), "unknown_field", message));
    }
    let number = match fields.get("revision") {
        None | Some(Value::Null) => return Err(ApiError::missing_field("revision")),
        Some(number) => field::integer("revision", number, 0..=i64::MAX)?,
    };
    let options = options(&request, None, false)?;
    Ok(accepted(state.runtime.roll_back(number, options).await?))
}

impl From<PastRevision> for Entry {
    fn from(revision: PastRevision) -> Self {
        let created = OffsetDateTime::from_unix_timestamp(revision.created_at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self {
            revision: revision.number,
            created_at: created.format(&Rfc3339).expect("a UTC time of these centuries has this form"),
            content_hash: revision.content_hash,
            origin: revision.origin,
            active: revision.active,
            document: revision.document,
        }
    }
}
