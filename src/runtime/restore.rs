//! Which configuration is active after a start.
//!
//! The file's `[active]` table if it changed since it was last applied, else the newest revision that can be
//! prepared, else what the environment makes, else the model that ships, else none. A revision that the
//! environment made counts only as long as the environment still makes it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tracing::Level;

use crate::config::Settings;
use crate::config::document::{Document, Secrets, content_hash};
use crate::config::first;
use crate::config::origin::{self, FieldOrigins};
use crate::config::shipped::SHIPPED_MODEL;
use crate::store::{Origin, Revision, StoreError};

use super::Runtime;
use super::history::origins_of;
use super::lane::{Change, ConfigureError, ConfigureOptions, Draft};

/// Revisions read from the store at a time.
const PAGE: u32 = 16;
/// How what is said of a revision that was not restored begins.
const REVISION: &str = "revision ";

impl Runtime {
    pub(super) async fn restore(&self, settings: &Settings) -> Result<(), StoreError> {
        let mut failures = Vec::new();
        let restored =
            self.restore_configured(settings, &mut failures).await? || self.use_shipped_model(&mut failures).await;
        self.tell(&failures);
        if !restored {
            tracing::warn!("no configuration is active; POST /configure sets one");
        }
        self.not_restored.store(Arc::new(failures));
        if settings.active.is_none() {
            self.tell_of_unheeded_variable();
        }
        Ok(())
    }

    /// Tells what was not restored: of many revisions, which mostly fail for one reason, no more than how many, and the
    /// newest one's.
    fn tell(&self, failures: &[String]) {
        let active = match self.snapshot() {
            Some(active) if active.revision > 0 => format!("revision {} is active", active.revision),
            Some(active) => format!("the model that ships is active ({})", active.names.model),
            None => "none is active".to_owned(),
        };
        for (level, line) in lines(failures, &active) {
            match level {
                Level::ERROR => tracing::error!("{line}"),
                Level::WARN => tracing::warn!("{line}"),
                _ => tracing::debug!("{line}"),
            }
        }
    }

    /// What was configured once wins over what is exported now, which is not what everybody expects.
    fn tell_of_unheeded_variable(&self) {
        // Where it is the model that ships, the failure has been told.
        let Some(active) = self.snapshot().filter(|active| active.revision > 0) else { return };
        let description = &active.description;
        let variable = first::unheeded(&self.environment, &description.document, &description.origins);
        if let Some(variable) = variable {
            tracing::info!(
                "{variable} is set, but revision {} stays active (provider {}, model {}), because it was configured: \
                 POST or PATCH /configure changes it, and another --state-dir begins without it",
                active.revision,
                active.names.provider.as_str(),
                active.names.model,
            );
        }
    }

    async fn restore_configured(&self, settings: &Settings, failures: &mut Vec<String>) -> Result<bool, StoreError> {
        if let Some(file) = &settings.active {
            let origins = settings.active_origins.clone();
            if self.apply_first_file(file.clone(), origins, failures).await? {
                return Ok(true);
            }
        }
        let newest = self.store.newest(None, 1).await?.pop();
        if settings.active.is_none() && newest.as_ref().is_none_or(|newest| newest.origin == Origin::Environment) {
            return self.use_environment(newest, failures).await;
        }
        self.restore_newest(failures).await
    }

    /// Commits `[active]` as a new revision if it is not the one that was last applied.
    async fn apply_first_file(
        &self,
        file: Document,
        origins: FieldOrigins,
        failures: &mut Vec<String>,
    ) -> Result<bool, StoreError> {
        match self.change_in_lane(Change::File(file, origins), ConfigureOptions::default(), None).await {
            Ok(None) => Ok(false),
            Ok(Some(configured)) => {
                for warning in &configured.warnings {
                    tracing::warn!("{warning}");
                }
                Ok(true)
            }
            Err(ConfigureError::Store(error)) => Err(error),
            Err(error) => {
                failures.push(format!("the file's `[active]` was not applied: {error}"));
                Ok(false)
            }
        }
    }

    /// Makes what the environment says active: as the revision that it already is, or a new one.
    async fn use_environment(&self, newest: Option<Revision>, failures: &mut Vec<String>) -> Result<bool, StoreError> {
        let Some(first) = first::from_environment(&self.environment) else { return Ok(false) };
        let variable = first.variable;
        // It holds references alone, so that it is shown as it is.
        let known = newest.filter(|newest| newest.content_hash == content_hash(&first.document));
        let _lane = self.lane.lock().await;
        let draft = Draft { document: first.document, origin: Origin::Environment, field_origins: first.origins };
        let prepared = match self.prepare(draft).await {
            Ok(prepared) => prepared,
            Err(error) => {
                failures.push(format!("the configuration that {variable} makes was not applied: {error}"));
                return Ok(false);
            }
        };
        for warning in &prepared.warnings {
            tracing::warn!("{warning}");
        }
        match known {
            Some(known) => self.publish(prepared.numbered(known.number, known.created_at)),
            None => drop(self.commit(prepared).await?),
        }
        tracing::info!(variable, "nobody has configured anything, so the environment does");
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
                    Err(why) => failures.push(format!("{REVISION}{} was not restored: {why}", revision.number)),
                }
            }
        }
    }

    async fn restore_one(&self, revision: &Revision) -> Result<(), String> {
        let document = self.vault.reopen(&revision.document, &Secrets::new())?;
        let field_origins = origins_of(revision, &document);
        let draft = Draft { document, origin: revision.origin, field_origins };
        let prepared = self.prepare(draft).await.map_err(|error| error.message)?;
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
        let field_origins = origin::all(&document, origin::DEFAULT);
        let draft = Draft { document, origin: Origin::Request, field_origins };
        match self.prepare(draft).await {
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

/// What the log says of failures to restore, newest first, where `active` says what is active in their place.
fn lines(failures: &[String], active: &str) -> Vec<(Level, String)> {
    let (revisions, others): (Vec<&String>, Vec<&String>) =
        failures.iter().partition(|failure| failure.starts_with(REVISION));
    let mut lines: Vec<_> = others.into_iter().map(|failure| (Level::WARN, failure.clone())).collect();
    if let Some((newest, rest)) = revisions.split_first() {
        let summary = match rest.len() {
            0 => format!("{newest}; {active}"),
            more => format!("{newest}; nor were {more} before it; {active}"),
        };
        lines.push((Level::ERROR, summary));
        lines.extend(rest.iter().map(|failure| (Level::DEBUG, (*failure).clone())));
    }
    lines
}

fn seconds_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_revisions_that_were_not_restored_are_one_line_of_the_log() {
        let of = |number: u32| format!("revision {number} was not restored: the key is gone");
        let mut failures: Vec<String> = (2..=53).rev().map(of).collect();
        failures.insert(0, "the file's `[active]` was not applied: no".to_owned());
        let lines = lines(&failures, "revision 1 is active");
        let at = |level: Level| lines.iter().filter(|(at, _)| *at == level).map(|(_, line)| line).collect::<Vec<_>>();
        assert_eq!(at(Level::WARN), ["the file's `[active]` was not applied: no"]);
        assert_eq!(
            at(Level::ERROR),
            ["revision 53 was not restored: the key is gone; nor were 51 before it; revision 1 is active"]
        );
        assert_eq!(at(Level::DEBUG).len(), 51);
        let one = super::lines(&failures[1..2], "none is active");
        assert_eq!(one, [(Level::ERROR, "revision 53 was not restored: the key is gone; none is active".to_owned())]);
        assert!(super::lines(&[], "x").is_empty());
    }
}
