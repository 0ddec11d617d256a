//! The HTTP client of a provider: pooled connections to one origin, and plain words for what goes wrong
//! before an upstream has answered.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use reqwest::redirect::Policy;
use url::Url;

use crate::failure::{Failure, FailureKind};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Builds a client for one origin.
///
/// HTTP/1.1 only: a vote that is decided drops many calls at once, which over HTTP/2 looks like a
/// rapid-reset attack, while a closed connection is understood everywhere. No redirect is followed, since
/// that would carry the key to another address, and proxies in the environment are not read.
///
/// # Errors
///
/// The reason, for an `https` origin when the system's certificates cannot be read. Plain `http` does not need
/// them.
pub(super) fn build(origin: &Url) -> Result<reqwest::Client, String> {
    // The process may have a provider already: whichever came first serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .http1_only()
        .redirect(Policy::none())
        .no_proxy()
        .retry(reqwest::retry::never())
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("itsd/", env!("CARGO_PKG_VERSION")));
    if origin.scheme() == "http" {
        // No redirect is followed, so that TLS never happens: an empty set of certificates keeps a machine
        // without any from failing here.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| root_cause(&error))
}

/// What to say of a call that broke before or while the upstream answered. Never shows more of the address
/// than scheme, host and port.
pub(super) fn describe(error: &reqwest::Error, origin: &str) -> Failure {
    if error.is_connect() {
        let cause = if error.is_timeout() { "no answer in time".to_owned() } else { root_cause(error) };
        return Failure::new(
            FailureKind::Unavailable,
            format!("could not connect to {origin}: {cause}; is it running, and is `endpoint` right?"),
        );
    }
    if error.is_timeout() {
        return Failure::new(FailureKind::Timeout, format!("{origin} did not answer in time"));
    }
    if error.is_builder() {
        return Failure::new(FailureKind::Internal, format!("could not form a request to {origin}"));
    }
    Failure::new(FailureKind::Unavailable, format!("the connection to {origin} broke: {}", root_cause(error)))
}

/// The innermost reason, which is the one that names a fact; the outer ones repeat the address.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = None;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && let Some(words) = io_cause(error)
        {
            return words.to_owned();
        }
        text = Some(error.to_string());
        cause = error.source();
    }
    text.unwrap_or_else(|| "no reason given".to_owned())
}

fn io_cause(error: &io::Error) -> Option<&'static str> {
    // A handshake's error travels inside others, where a walk along the sources does not come by.
    if let Some(inner) = error.get_ref() {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return io_cause(error);
        }
        if let Some(rustls::Error::InvalidMessage(_)) = inner.downcast_ref::<rustls::Error>() {
            return Some("it does not speak TLS (http:// instead of https://?)");
        }
    }
    Some(match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset",
        io::ErrorKind::ConnectionAborted => "connection aborted",
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => "the upstream closed it",
        io::ErrorKind::HostUnreachable => "no route to the host",
        io::ErrorKind::NetworkUnreachable => "the network is unreachable",
        io::ErrorKind::TimedOut => "no answer in time",
        _ => return None,
    })
}
