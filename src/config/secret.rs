//! Secrets in settings: a literal, or a reference to an environment variable or a file.
//!
//! References are kept as they are written; a literal is a [`SecretString`] from here on and is shown only
//! as a short fingerprint.

use std::fs;
use std::io;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::environment::Environment;
use super::field::{self, SettingsError};

/// Where a secret comes from.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// `env:NAME` or `${NAME}`.
    Env(String),
    /// `file:PATH`; white space around the content is taken off.
    File(PathBuf),
    Literal(SecretString),
}

impl SecretSource {
    /// Reads a secret as a client writes it.
    ///
    /// # Errors
    ///
    /// When a reference names nothing, or the text is the fingerprint of a secret instead of one.
    pub fn parse(param: &str, text: &str) -> Result<Self, SettingsError> {
        if is_fingerprint(text) {
            return Err(secret_not_stored(param, text));
        }
        match Reference::of(text) {
            Some(Reference::Env(name)) if is_variable_name(name) => Ok(Self::Env(name.to_owned())),
            Some(Reference::Env(_)) => Err(SettingsError::invalid(
                param,
                format!("`{param}` must name an environment variable, as in `env:OPENAI_API_KEY`"),
            )),
            Some(Reference::File(path)) if !path.trim().is_empty() => Ok(Self::File(PathBuf::from(path))),
            Some(Reference::File(_)) => Err(SettingsError::invalid(
                param,
                format!("`{param}` must name a file, as in `file:/run/credentials/openai`"),
            )),
            None => Ok(Self::Literal(SecretString::from(text))),
        }
    }

    /// Reads the secret of a field, without the white space around it.
    ///
    /// # Errors
    ///
    /// As [`SecretSource::parse`], and for what is no text of one line.
    pub(super) fn of_field(param: &str, value: &Value) -> Result<Self, SettingsError> {
        let text = field::text(param, value)?;
        // It travels in a header, which cannot hold these; the mistake is told here and not by every call.
        if text.trim().chars().any(char::is_control) {
            let message = format!("`{param}` must not hold line breaks or other control characters");
            return Err(SettingsError::invalid(param, message));
        }
        Self::parse(param, text.trim())
    }

    /// The secret itself.
    ///
    /// # Errors
    ///
    /// When the variable is not set, or the file cannot be read, is no regular one, lies under /proc, /sys or
    /// /dev, is empty, or larger than 64 KiB.
    pub fn resolve(&self, param: &str, environment: &Environment) -> Result<SecretString, SettingsError> {
        match self {
            Self::Literal(secret) => Ok(secret.clone()),
            Self::Env(name) => environment.var(name).map(|value| SecretString::from(value.trim())).ok_or_else(|| {
                SettingsError::invalid(
                    param,
                    format!("`{param}` refers to the environment variable {name}, which the daemon does not have"),
                )
            }),
            Self::File(path) => {
                let shown = path.display();
                let refused =
                    |why: String| SettingsError::invalid(param, format!("`{param}` refers to the file {shown}, {why}"));
                let unreadable = |error: io::Error| refused(format!("which cannot be read: {error}"));
                let path = path.canonicalize().map_err(unreadable)?;
                // What the kernel tells there, such as the environment of a process, is nobody's secret file.
                if ["/proc", "/sys", "/dev"].iter().any(|system| path.starts_with(system)) {
                    return Err(refused("which lies under /proc, /sys or /dev".to_owned()));
                }
                let metadata = fs::metadata(&path).map_err(unreadable)?;
                // A pipe or a device could be read for ever.
                if !metadata.is_file() {
                    return Err(refused("which is no regular file".to_owned()));
                }
                if metadata.len() > 64 * 1024 {
                    return Err(refused("which is too large for a secret".to_owned()));
                }
                let content = fs::read_to_string(&path).map_err(unreadable)?;
                match content.trim() {
                    "" => Err(refused("which is empty".to_owned())),
                    secret => Ok(SecretString::from(secret)),
                }
            }
        }
    }
}

/// A reference to a secret, as opposed to the secret.
enum Reference<'a> {
    Env(&'a str),
    File(&'a str),
}

impl<'a> Reference<'a> {
    fn of(text: &'a str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("env:") {
            return Some(Self::Env(name.trim()));
        }
        if let Some(path) = text.strip_prefix("file:") {
            return Some(Self::File(path));
        }
        text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).map(|name| Self::Env(name.trim()))
    }
}

/// Whether the text refers to a secret kept elsewhere, so that it may be stored and shown.
pub fn is_reference(text: &str) -> bool {
    Reference::of(text).is_some()
}

/// What is shown in place of a literal secret: the first 32 bits of its SHA-256.
///
/// Sent back in its place, it stands for the secret that is stored there.
pub fn fingerprint(secret: &SecretString) -> String {
    let digest = Sha256::digest(secret.expose_secret().as_bytes());
    format!("sha256:{:02x}{:02x}{:02x}{:02x}…", digest[0], digest[1], digest[2], digest[3])
}

/// What is shown in place of a secret that cannot be opened any more.
pub const UNKNOWN_FINGERPRINT: &str = "sha256:????????…";

/// Whether the text has the form of a [`fingerprint`].
pub fn is_fingerprint(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .and_then(|rest| rest.strip_suffix('…'))
        .is_some_and(|hex| hex.len() == 8 && hex.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'?'))
}

/// The error for a fingerprint that stands for no secret of ours.
pub(super) fn secret_not_stored(param: &str, fingerprint: &str) -> SettingsError {
    SettingsError::invalid(
        param,
        format!(
            "`{param}` is the fingerprint {fingerprint} of a secret that is not stored here; send the secret itself, \
             `env:NAME` or `file:PATH`"
        ),
    )
}

/// Whether the value of a header is shown and stored as it stands. Any header may carry a secret under any name,
/// so that these are the ones of which it is known that they do not.
pub fn is_public_header(name: &str) -> bool {
    const PUBLIC: [&str; 12] = [
        "accept-language",
        "anthropic-beta",
        "anthropic-version",
        "http-referer",
        "openai-beta",
        "openai-organization",
        "openai-project",
        "referer",
        "user-agent",
        "x-client-name",
        "x-client-version",
        "x-title",
    ];
    PUBLIC.iter().any(|public| name.eq_ignore_ascii_case(public))
}

/// Whether a body field of this name is likely to hold a secret.
pub fn looks_secret(name: &str) -> bool {
    const WORDS: [&str; 10] =
        ["auth", "bearer", "key", "token", "secret", "password", "passwd", "credential", "cookie", "signature"];
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<String, SettingsError> {
        let environment = Environment::from_pairs([("MY_KEY", " sk-from-env\n"), ("EMPTY", "")]);
        let secret = SecretSource::parse("api_key", text)?.resolve("api_key", &environment)?;
        Ok(secret.expose_secret().to_owned())
    }

    #[test]
    fn every_way_to_write_a_key_gives_the_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "sk-from-file\n").unwrap();
        assert_eq!(resolve("sk-literal").unwrap(), "sk-literal");
        assert_eq!(resolve("env:MY_KEY").unwrap(), "sk-from-env");
        assert_eq!(resolve("${MY_KEY}").unwrap(), "sk-from-env");
        assert_eq!(resolve(&format!("file:{}", file.path().display())).unwrap(), "sk-from-file");
    }

    #[test]
    fn a_reference_that_leads_nowhere_is_refused_by_name() {
        for (text, expected) in [
            ("env:OTHER", "OTHER"),
            ("env:EMPTY", "EMPTY"),
            ("env:", "environment variable"),
            ("${}", "environment variable"),
            ("env:A B", "environment variable"),
            ("file:", "must name a file"),
            ("file:/nonexistent/key", "/nonexistent/key"),
            ("file:/", "no regular file"),
            ("file:/dev/zero", "/dev"),
            ("file:/proc/self/environ", "/proc"),
            ("file:/sys/kernel/notes", "/sys"),
            ("file:/usr/../proc/self/cmdline", "/proc"),
        ] {
            let error = resolve(text).unwrap_err();
            assert!(error.message.contains(expected), "{text}: {}", error.message);
            assert_eq!(error.param, "api_key");
        }
    }

    #[test]
    fn a_link_does_not_lead_into_the_kernels_files() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("key");
        std::os::unix::fs::symlink("/proc/self/environ", &link).unwrap();
        let error = resolve(&format!("file:{}", link.display())).unwrap_err();
        assert!(error.message.contains("under /proc"), "{}", error.message);
    }

    #[test]
    fn a_fingerprint_tells_two_secrets_apart_and_is_never_taken_for_one() {
        // printf abc | sha256sum begins with ba7816bf.
        assert_eq!(fingerprint(&SecretString::from("abc")), "sha256:ba7816bf…");
        assert_ne!(fingerprint(&SecretString::from("abd")), "sha256:ba7816bf…");
        assert!(SecretSource::parse("api_key", "sha256:ba7816bf…").unwrap_err().message.contains("fingerprint"));
    }

    #[test]
    fn names_that_usually_hold_secrets_are_recognised() {
        for name in ["Authorization", "x-api-key", "aws_secret_access_key", "X-Auth", "Set-Cookie"] {
            assert!(looks_secret(name), "{name}");
        }
        for name in ["user", "aws_region_name"] {
            assert!(!looks_secret(name), "{name}");
        }
    }

    #[test]
    fn only_headers_that_are_known_to_be_public_are() {
        for name in ["HTTP-Referer", "X-Title", "x-title", "User-Agent", "OpenAI-Organization", "anthropic-version"] {
            assert!(is_public_header(name), "{name}");
        }
        for name in ["X-Sec", "cf-access-id", "X-Api-Key", "Authorization", "X-Title-2", ""] {
            assert!(!is_public_header(name), "{name}");
        }
    }
}
