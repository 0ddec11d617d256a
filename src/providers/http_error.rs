//! What goes wrong with a call before an upstream has answered, or while it does, in plain words.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::tls;
use crate::failure::{Failure, FailureKind};

/// Why there is no answer, or no more of one.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("the address is none that a request can be sent to")]
    Unformed,
    #[error("there was no connection in time")]
    ConnectTimeout,
    #[error("there was no connection")]
    Unconnected(#[source] Box<dyn Error + Send + Sync>),
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    #[error("the answer could not be unpacked")]
    Packed(#[source] io::Error),
    /// Of the client that speaks TLS and HTTP/2.
    #[error(transparent)]
    Full(#[from] reqwest::Error),
}

impl HttpError {
    /// Whether there was no connection, so that the upstream has not heard of the call.
    pub fn is_connect(&self) -> bool {
        match self {
            Self::ConnectTimeout | Self::Unconnected(_) => true,
            Self::Full(error) => error.is_connect(),
            Self::Unformed | Self::Broken(_) | Self::Packed(_) => false,
        }
    }

    fn is_timeout(&self) -> bool {
        match self {
            Self::ConnectTimeout => true,
            Self::Full(error) => error.is_timeout(),
            Self::Unformed => false,
            // The system gives connections up too.
            Self::Unconnected(_) | Self::Broken(_) | Self::Packed(_) => {
                let mut causes = std::iter::successors(self.source(), |error| (*error).source());
                let is_late = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
                causes.any(|cause| cause.downcast_ref().is_some_and(is_late))
            }
        }
    }

    fn is_unformed(&self) -> bool {
        matches!(self, Self::Unformed) || matches!(self, Self::Full(error) if error.is_builder())
    }
}

/// What to say of a call that broke before or while the upstream answered. Never shows more of the address
/// than scheme, host and port.
/// `endpoint` is the field or header that the address comes from.
pub(super) fn describe(error: &HttpError, origin: &str, connect_timeout: Duration, endpoint: &str) -> Failure {
    if error.is_connect() && error.is_timeout() {
        let limit = connect_timeout.as_secs_f64();
        return Failure::new(
            FailureKind::Unavailable,
            format!("could not connect to {origin} within {limit} s; `connect_timeout_ms` sets this limit"),
        );
    }
    if error.is_connect() {
        if let Some(cause) = tls::handshake_error(error).and_then(tls::refused_certificate) {
            return Failure::new(FailureKind::Unavailable, format!("could not connect to {origin}: {cause}"));
        }
        let cause = root_cause(error);
        return Failure::new(
            FailureKind::Unavailable,
            format!("could not connect to {origin}: {cause}; is it running, and is `{endpoint}` right?"),
        );
    }
    if error.is_timeout() {
        return Failure::new(FailureKind::Timeout, format!("{origin} did not answer in time"));
    }
    if error.is_unformed() {
        return Failure::new(FailureKind::Internal, format!("could not form a request to {origin}"));
    }
    Failure::new(FailureKind::Unavailable, format!("the connection to {origin} broke: {}", root_cause(error)))
}

/// Whether an error is that of a server which answers HTTP/1.1 where HTTP/2 is spoken without having been offered: its
/// first letters, read as the length of a frame, are more than any may have.
pub(super) fn speaks_no_http2(error: &HttpError) -> bool {
    root_cause(error).contains("frame with invalid size")
}

/// The innermost reason, which is the one that names a fact; the outer ones repeat the address.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    if let Some(rustls::Error::InvalidMessage(_)) = tls::handshake_error(error) {
        return "it does not speak TLS (http:// instead of https://?)".to_owned();
    }
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
    // One travels inside another, where a walk along the sources does not come by.
    if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return io_cause(inner);
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
