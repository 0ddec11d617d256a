//! TLS to upstreams: whom the daemon trusts, and plain words for what goes wrong in a handshake.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::{CertificateError, ClientConfig};
use rustls_platform_verifier::Verifier;

/// The settings of a client's connections. Reads the certificates that the machine trusts, which takes milliseconds;
/// clones share them, and the sessions that servers let be resumed.
///
/// # Errors
///
/// The reason, when the machine has no certificates that can be read.
pub(super) fn settings(http2: bool) -> Result<ClientConfig, String> {
    let provider = Arc::new(default_provider());
    let verifier = Verifier::new(Arc::clone(&provider)).map_err(|error| error.to_string())?;
    let mut settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // The server chooses among these while the connection is secured.
    let protocols: &[&str] = if http2 { &["h2", "http/1.1"] } else { &["http/1.1"] };
    settings.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(settings)
}

/// What ended a handshake, if that was it.
pub(super) fn handshake_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        // What an I/O error holds does not come by on a walk along the sources.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Why a server's certificate is not good, and what to do; `None` for an error of another kind.
pub(super) fn refused_certificate(error: &rustls::Error) -> Option<String> {
    let rustls::Error::InvalidCertificate(reason) = error else { return None };
    Some(match reason {
        // The signature is bad where another authority of the same name is trusted, such as an older one.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "this machine does not trust whoever signed its certificate; add the authority's certificate to the \
             system's, or start the daemon with SSL_CERT_FILE set to a file of all that it shall trust"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name; `endpoint` must have a name or address that the certificate has"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired; it needs a new one, if this machine's clock is right".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is this machine's clock right?".to_owned()
        }
        // What `openssl req -x509` makes unless it is told otherwise.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is one of an authority, which cannot be a server's own; make one with \
             basicConstraints=CA:FALSE"
                .to_owned()
        }
        reason => format!("its certificate is not good: {reason}"),
    })
}
