//! Sealing literal secrets before they are stored, with XChaCha20-Poly1305.
//!
//! A key that lies beside the database guards copies of the database alone; one that comes through
//! `$CREDENTIALS_DIRECTORY` guards the directory as well.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// The name of the key file, in the credentials directory and in the state directory.
pub const KEY_FILE: &str = "itsd-secret";

/// Marks a sealed secret in a stored document; the number is that of the scheme.
const PREFIX: &str = "sealed:1:";
const NONCE_BYTES: usize = 24;

/// Seals and opens secrets with one key.
pub struct Sealer {
    cipher: XChaCha20Poly1305,
}

/// Why there is no key to seal with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the key file {path} cannot be read or made: {cause}")]
    Io { path: PathBuf, cause: io::Error },
    #[error("the key file {path} is readable by others; make it yours alone: chmod 600 {path}")]
    ReadableByOthers { path: PathBuf },
    #[error("the key file {path} is shorter than 16 bytes")]
    TooShort { path: PathBuf },
}

/// Why a sealed secret could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was sealed with another key or is damaged")]
pub struct OpenError;

impl Sealer {
    /// The key of the credentials directory if there is one, else that of the state directory, which is made
    /// at the first start.
    pub fn load(credentials_dir: Option<&Path>, state_dir: &Path) -> Result<Self, KeyError> {
        if let Some(path) = credentials_dir.map(|dir| dir.join(KEY_FILE)).filter(|path| path.exists()) {
            // systemd decides about the mode of its credentials.
            return Self::read(path, false);
        }
        let path = state_dir.join(KEY_FILE);
        if !path.exists() {
            create(&path).map_err(|cause| KeyError::Io { path: path.clone(), cause })?;
        }
        Self::read(path, true)
    }

    fn read(path: PathBuf, must_be_private: bool) -> Result<Self, KeyError> {
        let content = (|| {
            if must_be_private && fs::metadata(&path)?.permissions().mode() & 0o077 != 0 {
                return Ok(None);
            }
            fs::read(&path).map(Some)
        })()
        .map_err(|cause| KeyError::Io { path: path.clone(), cause })?;
        let Some(content) = content else { return Err(KeyError::ReadableByOthers { path }) };
        let secret = content.trim_ascii();
        if secret.len() < 16 {
            return Err(KeyError::TooShort { path });
        }
        Ok(Self::from_secret(secret))
    }

    /// Any secret of enough entropy gives a key of the right length by hashing.
    fn from_secret(secret: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(b"itsd seal 1\0").chain_update(secret).finalize();
        let key = Key::try_from(digest.as_slice()).expect("SHA-256 has the length of a key");
        Self { cipher: XChaCha20Poly1305::new(&key) }
    }

    /// Seals a secret for one place of the document; it opens at no other.
    pub fn seal(&self, place: &str, secret: &SecretString) -> String {
        let nonce = XNonce::generate();
        let payload = Payload { msg: secret.expose_secret().as_bytes(), aad: place.as_bytes() };
        let sealed = self.cipher.encrypt(&nonce, payload).expect("a secret is far below the cipher's limit");
        format!("{PREFIX}{}", BASE64.encode([nonce.as_slice(), sealed.as_slice()].concat()))
    }

    /// Opens what [`Sealer::seal`] made for the same place.
    pub fn open(&self, place: &str, sealed: &str) -> Result<SecretString, OpenError> {
        let encoded = sealed.strip_prefix(PREFIX).ok_or(OpenError)?;
        let bytes = BASE64.decode(encoded).map_err(|_| OpenError)?;
        let (nonce, ciphertext) = bytes.split_at_checked(NONCE_BYTES).ok_or(OpenError)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| OpenError)?;
        let payload = Payload { msg: ciphertext, aad: place.as_bytes() };
        let secret = self.cipher.decrypt(&nonce, payload).map_err(|_| OpenError)?;
        String::from_utf8(secret).map(SecretString::from).map_err(|_| OpenError)
    }
}

/// Whether the text is a sealed secret.
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Makes a key file that only its owner can read. It is written whole under another name first, so that a
/// crash leaves either no key or a key; of two processes that start together, the first one's key stays.
fn create(path: &Path) -> io::Result<()> {
    let draft = path.with_extension(uuid::Uuid::new_v4().simple().to_string());
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let made = (|| {
        file.write_all(format!("{}\n", BASE64.encode(Key::generate())).as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    })();
    fs::remove_file(&draft)?;
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_with_its_key_at_its_place_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::load(None, dir.path()).unwrap();
        let secret = SecretString::from("sk-very-secret");
        let sealed = sealer.seal("api_key", &secret);
        assert!(is_sealed(&sealed) && !sealed.contains("secret"));
        assert_ne!(sealed, sealer.seal("api_key", &secret));
        assert_eq!(sealer.open("api_key", &sealed).unwrap().expose_secret(), "sk-very-secret");
        assert_eq!(sealer.open("extra_args.my_key", &sealed).unwrap_err(), OpenError);

        let restarted = Sealer::load(None, dir.path()).unwrap();
        assert_eq!(restarted.open("api_key", &sealed).unwrap().expose_secret(), "sk-very-secret");

        let elsewhere = tempfile::tempdir().unwrap();
        let stranger = Sealer::load(None, elsewhere.path()).unwrap();
        assert_eq!(stranger.open("api_key", &sealed).unwrap_err(), OpenError);
        for damaged in ["", "sealed:1:", "sealed:1:AAAA", "sealed:1:%%", &sealed[..sealed.len() - 4], "sealed:2:AAAA"] {
            assert_eq!(sealer.open("api_key", damaged).unwrap_err(), OpenError, "{damaged}");
        }
    }

    #[test]
    fn the_key_is_its_owners_alone_and_one_that_is_not_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Sealer::load(None, dir.path()).unwrap();
        let path = dir.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Sealer::load(None, dir.path()), Err(KeyError::ReadableByOthers { .. })));
    }

    #[test]
    fn a_key_handed_over_by_the_service_manager_is_preferred() {
        let (credentials, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(credentials.path().join(KEY_FILE), "a long enough credential\n").unwrap();
        let sealed = Sealer::load(Some(credentials.path()), state.path()).unwrap().seal("api_key", &"k".into());
        assert!(!state.path().join(KEY_FILE).exists());
        assert!(Sealer::load(Some(credentials.path()), state.path()).unwrap().open("api_key", &sealed).is_ok());

        fs::write(credentials.path().join(KEY_FILE), "short").unwrap();
        assert!(matches!(Sealer::load(Some(credentials.path()), state.path()), Err(KeyError::TooShort { .. })));
    }
}
