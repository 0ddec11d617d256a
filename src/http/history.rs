//! `GET /configure/history` and `POST /configure/rollback`: what was active before, and the way back to it.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::field;
use crate::runtime::{ConfigureError, PastRevision};

use super::AppState;
use super::body::JsonBody;
use super::configure::{ConfigureQuery, accepted, object, options};
use super::error::ApiError;

/// Revisions that one answer holds at most, and without `limit`.
const MOST: u32 = 100;
const USUAL: u32 = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    /// 1 to 100. Text here and below, since the query's parser does not tell which number is none.
    limit: Option<String>,
    /// Only revisions of lower numbers.
    before: Option<String>,
}

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
pub async fn list(state: Data<AppState>, query: Query<HistoryQuery>) -> Result<HttpResponse, ApiError> {
    let limit = match &query.limit {
        None => USUAL,
        Some(limit) => limit.parse().ok().filter(|limit| (1..=MOST).contains(limit)).ok_or_else(|| {
            ApiError::invalid_value("limit", format!("`limit` must be a whole number from 1 to {MOST}, not {limit:?}"))
        })?,
    };
    let before = match &query.before {
        None => None,
        Some(before) => Some(before.parse().ok().filter(|before: &i64| *before >= 0).ok_or_else(|| {
            let message = format!("`before` must be the number of a revision, 0 or more, not {before:?}");
            ApiError::invalid_value("before", message)
        })?),
    };
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
pub async fn roll_back(
    state: Data<AppState>,
    request: HttpRequest,
    query: Query<ConfigureQuery>,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let fields = object(&body.0)?;
    if let Some(unknown) = fields.keys().find(|name| *name != "revision") {
        let message = format!("unknown field `{unknown}`; the body is {{\"revision\": N}}");
        return Err(ApiError::bad_request(Some(unknown), "unknown_field", message));
    }
    let number = match fields.get("revision") {
        None | Some(Value::Null) => return Err(ApiError::missing_field("revision")),
        Some(number) => field::integer("revision", number, 0..=i64::MAX)?,
    };
    let options = options(&request, &query, None)?;
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
