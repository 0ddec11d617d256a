//! Which configuration is active after a start.
//!
//! The file's `[active]` table if it changed since it was last applied, else the newest revision that can be
//! prepared, else the model that ships, else none.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::config::document::{Document, content_hash, take_secrets};
use crate::config::shipped::SHIPPED_MODEL;
use crate::store::{Origin, Revision, StoreError};

use super::Runtime;

/// Revisions read from the store at a time.
const PAGE: u32 = 16;

impl Runtime {
    pub(super) async fn restore(&self, file: Option<&Document>) -> Result<(), StoreError> {
        let mut failures = Vec::new();
        let restored = self.apply_file(file, &mut failures).await?
            || self.restore_newest(&mut failures).await?
            || self.use_shipped_model(&mut failures).await;
        for failure in &failures {
            tracing::warn!("{failure}");
        }
        if !restored {
            tracing::warn!("no configuration is active; POST /configure sets one");
        }
        self.not_restored.store(Arc::new(failures));
        Ok(())
    }

    /// Commits `[active]` as a new revision if it is not the one that was last applied.
    async fn apply_file(&self, file: Option<&Document>, failures: &mut Vec<String>) -> Result<bool, StoreError> {
        let Some(file) = file else { return Ok(false) };
        let mut shown = file.clone();
        take_secrets(&mut shown);
        if self.store.last_file_hash().await?.as_deref() == Some(&content_hash(&shown)) {
            return Ok(false);
        }
        let _lane = self.lane.lock().await;
        let prepared = match self.prepare(file.clone()).await {
            Ok(prepared) => prepared,
            Err(error) => {
                failures.push(format!("the file's `[active]` was not applied: {error}"));
                return Ok(false);
            }
        };
        for warning in &prepared.warnings {
            tracing::warn!("{warning}");
        }
        let (_, warning) = self.commit(prepared, Origin::File).await?;
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        Ok(true)
    }

    async fn restore_newest(&self, failures: &mut Vec<String>) -> Result<bool, StoreError> {
        let mut below = None;
        loop {
            let page = self.store.newest(below, PAGE).await?;
            let Some(last) = page.last() else { return Ok(false) };
            below = Some(last.number);
            for revision in page {
                match self.restore_one(&revision).await {
                    Ok(()) => return Ok(true),
                    Err(why) => failures.push(format!("revision {} was not restored: {why}", revision.number)),
                }
            }
        }
    }

    async fn restore_one(&self, revision: &Revision) -> Result<(), String> {
        let document = self.vault.reopen(&revision.document)?;
        let prepared = self.prepare(document).await.map_err(|error| error.message)?;
        self.publish(prepared.numbered(revision.number, revision.created_at));
        Ok(())
    }

    /// The model that ships needs no record: it is what there is when nobody has said anything.
    async fn use_shipped_model(&self, failures: &mut Vec<String>) -> bool {
        if !cfg!(feature = "llama") {
            return false;
        }
        let document = Document::from_iter(
            [("provider", "llama"), ("model", SHIPPED_MODEL)]
                .map(|(name, value)| (name.to_owned(), Value::from(value))),
        );
        match self.prepare(document).await {
            Ok(prepared) => {
                self.publish(prepared.numbered(0, seconds_now()));
                true
            }
            Err(error) => {
                failures.push(format!("the model that ships is not active: {error}"));
                false
            }
        }
    }
}

fn seconds_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
