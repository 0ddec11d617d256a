//! How a configuration is kept in the store: references as they are, literal secrets sealed, or, where there
//! is no key to seal with, only as fingerprints that nothing can be made of.

use std::path::Path;

use crate::config::Environment;
use crate::config::document::{Document, Secrets, visit_literals};
use crate::config::secret::{UNKNOWN_FINGERPRINT, fingerprint, is_fingerprint};
use crate::store::seal::{Sealer, is_sealed};
use secrecy::{ExposeSecret, SecretString};

/// Seals the secrets of documents on their way to the store and opens them on their way back.
pub struct Vault {
    /// `Err` tells why literal secrets are kept in memory only.
    sealer: Result<Sealer, String>,
}

impl Vault {
    pub fn open(state_dir: &Path, environment: &Environment) -> Self {
        let credentials = environment.path("CREDENTIALS_DIRECTORY");
        let sealer = Sealer::load(credentials.as_deref(), state_dir).map_err(|error| error.to_string());
        if let Err(error) = &sealer {
            tracing::warn!(%error, "literal secrets are kept in memory only, because there is no key to seal them with");
        }
        Self { sealer }
    }

    /// The text to store for a document whose secrets have been taken out, and a warning if some of them will
    /// not survive a restart.
    pub fn close(&self, shown: &Document, secrets: &Secrets) -> (String, Option<String>) {
        let mut document = shown.clone();
        let mut warning = None;
        visit_literals(&mut document, &mut |place, text| {
            let Some(secret) = secrets.get(place) else { return };
            match &self.sealer {
                Ok(sealer) => *text = sealer.seal(place, secret),
                Err(error) => {
                    warning = Some(format!(
                        "`{place}` is kept in memory only and will be missing after a restart: {error}; \
                         `env:NAME` and `file:PATH` survive one"
                    ));
                }
            }
        });
        (serde_json::to_string(&document).expect("JSON values serialise"), warning)
    }

    /// The document of a stored text, its secrets opened. One that was kept in memory only is taken from
    /// `known`, if it is still there.
    ///
    /// # Errors
    ///
    /// Why it cannot be had, for the log.
    pub fn reopen(&self, text: &str, known: &Secrets) -> Result<Document, String> {
        let mut document = parse(text)?;
        let mut failed = None;
        visit_literals(&mut document, &mut |place, text| {
            if !is_sealed(text) {
                // An earlier version may have taken it for no secret and stored it as it stands.
                if !is_fingerprint(text) {
                    return;
                }
                match known.get(place).filter(|secret| fingerprint(secret) == *text) {
                    Some(secret) => secret.expose_secret().clone_into(text),
                    None => failed = Some(format!("the secret `{place}` was kept in memory only")),
                }
                return;
            }
            match &self.sealer {
                Ok(sealer) => match sealer.open(place, text) {
                    Ok(secret) => secret.expose_secret().clone_into(text),
                    Err(error) => failed = Some(format!("the secret `{place}` cannot be opened: {error}")),
                },
                Err(error) => failed = Some(format!("the secret `{place}` cannot be opened: {error}")),
            }
        });
        failed.map_or(Ok(document), Err)
    }

    /// The document of a stored text as it may be shown: fingerprints in place of secrets, and a fingerprint
    /// that stands for nothing in place of one that cannot be opened.
    ///
    /// # Errors
    ///
    /// When the text is no document.
    pub fn redact(&self, text: &str) -> Result<Document, String> {
        let mut document = parse(text)?;
        visit_literals(&mut document, &mut |place, text| {
            if is_fingerprint(text) {
                return;
            }
            let opened = match is_sealed(text) {
                true => self.sealer.as_ref().ok().and_then(|sealer| sealer.open(place, text).ok()),
                false => Some(SecretString::from(text.as_str())),
            };
            *text = opened.as_ref().map_or_else(|| UNKNOWN_FINGERPRINT.to_owned(), fingerprint);
        });
        Ok(document)
    }
}

fn parse(text: &str) -> Result<Document, String> {
    serde_json::from_str(text).map_err(|error| format!("its document is not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_earlier_version_stored_in_clear_is_kept_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path(), &Environment::default());
        let stored = json!({"model": "m", "extra_args": {"headers": {"X-Sec": "abc", "X-Title": "t"}}}).to_string();
        let opened = vault.reopen(&stored, &Secrets::new()).unwrap();
        assert_eq!(opened["extra_args"]["headers"], json!({"X-Sec": "abc", "X-Title": "t"}));
        // printf abc | sha256sum begins with ba7816bf.
        let shown = vault.redact(&stored).unwrap();
        assert_eq!(shown["extra_args"]["headers"], json!({"X-Sec": "sha256:ba7816bf…", "X-Title": "t"}));
    }
}
