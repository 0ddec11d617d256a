//! Past revisions: what there was, and the way back to it.

use crate::config::document::Document;
use crate::config::origin::{self, FieldOrigins};
use crate::store::{Origin, Revision, StoreError};

use super::Runtime;
use super::active::ActiveConfig;
use super::lane::{ConfigureError, Draft};

/// One revision as it may be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct PastRevision {
    pub number: i64,
    /// Seconds since 1970-01-01 UTC.
    pub created_at: i64,
    /// SHA-256 of the document, in hexadecimal.
    pub content_hash: String,
    /// How it came about: `request`, `patch`, `rollback`, `file` or `environment`.
    pub origin: &'static str,
    /// Whether requests are answered under it.
    pub active: bool,
    /// Its secrets as references or fingerprints.
    pub document: Document,
}

impl Runtime {
    /// Past revisions, newest first, of numbers below `before` if it is given; at most `limit`. Whether there
    /// are older ones is the second value.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn history(&self, before: Option<i64>, limit: u32) -> Result<(Vec<PastRevision>, bool), StoreError> {
        let mut revisions = self.store.newest(before, limit + 1).await?;
        let more = revisions.len() > limit as usize;
        revisions.truncate(limit as usize);
        let active = self.snapshot().map(|active| active.revision);
        let shown = revisions.into_iter().map(|revision| PastRevision {
            number: revision.number,
            created_at: revision.created_at,
            content_hash: revision.content_hash,
            origin: revision.origin.as_str(),
            active: active == Some(revision.number),
            document: self.vault.redact(&revision.document).unwrap_or_else(|why| {
                tracing::error!(revision = revision.number, %why, "a revision cannot be shown");
                Document::new()
            }),
        });
        Ok((shown.collect(), more))
    }

    /// The content of a past revision, to be made the active one again.
    pub(super) async fn past_draft(&self, number: i64, active: Option<&ActiveConfig>) -> Result<Draft, ConfigureError> {
        let Some(revision) = self.store.revision(number).await? else {
            let there_is = match self.store.newest(None, 1).await?.first() {
                None => "nothing has been recorded yet".to_owned(),
                Some(newest) => format!("the newest is {}, GET /configure/history lists them", newest.number),
            };
            return Err(ConfigureError::UnknownRevision { number, there_is });
        };
        let known = active.map(|active| active.secrets.clone()).unwrap_or_default();
        let document = self
            .vault
            .reopen(&revision.document, &known)
            .map_err(|why| ConfigureError::NotPreparable { number, why })?;
        let field_origins = origins_of(&revision, &document);
        Ok(Draft { document, origin: Origin::Rollback, field_origins })
    }
}

/// Where the fields of a stored document came from. Revisions of older versions do not tell it for each.
pub(super) fn origins_of(revision: &Revision, document: &Document) -> FieldOrigins {
    let way = match revision.origin {
        Origin::File => origin::FILE,
        Origin::Request | Origin::Patch | Origin::Rollback | Origin::Environment => origin::REQUEST,
    };
    let mut origins = origin::all(document, way);
    origins.extend(serde_json::from_str::<FieldOrigins>(&revision.field_origins).unwrap_or_default());
    origins
}
