//! `GET /v1/models`: exactly the names that chat requests may use.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use serde::Serialize;

use crate::runtime::ModelEntry;

use super::AppState;
use super::error::ApiError;

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    /// Unix time in seconds.
    created: i64,
    owned_by: String,
}

impl From<ModelEntry> for Model {
    fn from(ModelEntry { id, created, owned_by }: ModelEntry) -> Self {
        Self { id, object: "model", created, owned_by }
    }
}

pub async fn list(state: Data<AppState>) -> HttpResponse {
    let data = known(&state).into_iter().map(Model::from).collect();
    HttpResponse::Ok().json(List { object: "list", data })
}

pub async fn show(state: Data<AppState>, id: Path<String>) -> Result<HttpResponse, ApiError> {
    let models = known(&state);
    match models.iter().find(|model| model.id == *id) {
        Some(model) => Ok(HttpResponse::Ok().json(Model::from(model.clone()))),
        None => Err(ApiError::model_not_found(&id, models.iter().map(|model| model.id.as_str()))),
    }
}

fn known(state: &AppState) -> Vec<ModelEntry> {
    state.runtime.snapshot().map(|active| active.models()).unwrap_or_default()
}
