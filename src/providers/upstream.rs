//! The upstream as failures speak of it: what it is called, what must not be repeated of it, and the words for what can
//! go wrong with any.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::http_error::{self, HttpError};
use super::retry::AttemptFailure;
use crate::config::calls::CallSettings;
use crate::failure::{Failure, FailureKind};

/// A larger answer is taken for a broken or hostile upstream.
pub(super) const MAX_BODY_BYTES: usize = 64 << 20;
/// Of an upstream's message, at most this much is passed on.
const MAX_MESSAGE_CHARS: usize = 1000;
/// A secret shorter than this is a placeholder such as `x`, and would be found in any text.
const MIN_SECRET_BYTES: usize = 4;

/// The upstream as failures speak of it, and what they must not repeat.
#[derive(Debug)]
pub(super) struct Upstream {
    pub name: String,
    /// Scheme, host and port.
    pub origin: String,
    pub secrets: Vec<SecretString>,
    pub wording: Wording,
    /// The profile of AWS that says as whom to call, where one is named.
    pub profile: Option<String>,
}

/// How failures speak of what can be changed about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wording {
    /// What was refused where a key was, with where it is set.
    pub key: &'static str,
    /// The field or header that holds the address.
    pub endpoint: &'static str,
}

impl Upstream {
    /// Strikes our secrets out of an upstream's words, which may echo the request, then cuts them short.
    pub fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            let secret = secret.expose_secret();
            if secret.len() >= MIN_SECRET_BYTES && text.contains(secret) {
                text = text.replace(secret, "[removed]");
            }
        }
        if let Some((end, _)) = text.char_indices().nth(MAX_MESSAGE_CHARS) {
            text.truncate(end);
            text.push('…');
        }
        text
    }

    /// The failure of an attempt that broke before its answer had come to its end.
    pub fn broken(&self, error: &HttpError, connect_timeout: Duration) -> AttemptFailure {
        let mut failure = http_error::describe(error, &self.origin, connect_timeout, self.wording.endpoint);
        failure.message = self.clean(&failure.message);
        let attempt = AttemptFailure::from(failure);
        if error.is_connect() { attempt.unreachable() } else { attempt }
    }

    /// The failure of an attempt whose time was up before its end.
    pub fn out_of_time(&self, calls: &CallSettings) -> AttemptFailure {
        self.timed_out("did not answer", calls.timeout, "timeout_ms")
    }

    /// The same of one whose answer has not begun in time.
    pub fn never_began(&self, calls: &CallSettings) -> AttemptFailure {
        let limit = calls.first_byte_timeout.unwrap_or(calls.timeout);
        self.timed_out("did not begin to answer", limit, "first_byte_timeout_ms")
    }

    /// The same of one whose answer has stopped.
    pub fn fell_silent(&self, calls: &CallSettings) -> AttemptFailure {
        let (name, limit) = (&self.name, calls.idle_timeout.as_secs_f64());
        let message = format!("{name} was silent for {limit} s within its answer; `idle_timeout_ms` sets this limit");
        Failure::new(FailureKind::Timeout, message).into()
    }

    /// An answer of more than an upstream that is neither broken nor hostile sends.
    pub fn too_large(&self, what: &str) -> AttemptFailure {
        let what = format!("a {what} of more than {} MiB", MAX_BODY_BYTES >> 20);
        AttemptFailure::fatal(malformed(self, &what).failure)
    }

    fn timed_out(&self, what: &str, limit: Duration, setting: &str) -> AttemptFailure {
        let (name, limit) = (&self.name, limit.as_secs_f64());
        let message = format!("{name} {what} within {limit} s; `{setting}` sets this limit");
        Failure::new(FailureKind::Timeout, message).into()
    }
}

/// An answer that is not what the protocol promises: `what` completes "… answered with".
pub(super) fn malformed(upstream: &Upstream, what: &str) -> AttemptFailure {
    Failure::new(FailureKind::Malformed, upstream.clean(&format!("{} answered with {what}", upstream.name))).into()
}

/// Whether an error is one that only a working server makes: a refusal of what was asked, or of what the model made of
/// it. One request with a tool that the model cannot use must not have the upstream left alone by everybody.
pub(super) fn is_verdict(status: Option<u16>, kind: FailureKind) -> bool {
    let is_refusal = status.is_some_and(|status| (400..500).contains(&status) && ![408, 409, 429].contains(&status));
    is_refusal || kind == FailureKind::Malformed
}

/// The kind of failure that a status stands for where no more is known.
pub(super) fn by_status(status: u16) -> FailureKind {
    match status {
        401 | 403 => FailureKind::Auth,
        402 | 429 => FailureKind::RateLimited,
        // A redirect or a method that is not allowed: the path is not one of this API.
        300..=399 | 404 | 405 | 410 => FailureKind::NotFound,
        408 | 409 | 500.. => FailureKind::Unavailable,
        _ => FailureKind::InvalidRequest,
    }
}
