//! What went wrong with a call, as the SDK tells it, turned into one of our failures.

use std::error::Error;
use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use aws_sdk_bedrockruntime::config::http::HttpResponse;
use aws_sdk_bedrockruntime::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::http::Headers;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::client::Server;
use super::transport::Broken;
use crate::failure::{Failure, FailureKind};
use crate::providers::retry::{AttemptFailure, requested_pause};
use crate::providers::upstream::{Upstream, by_status, is_verdict, malformed};

/// The failure of a call that came to no answer.
pub(super) fn of_call<E>(error: SdkError<E, HttpResponse>, server: &Server) -> AttemptFailure
where
    E: Error + ProvideErrorMetadata + 'static,
{
    let upstream = &server.upstream;
    if let Some(attempt) = of_our_own(&error, upstream) {
        return attempt;
    }
    let Some(response) = error.raw_response() else { return unknown(&error, upstream) };
    let status = response.status().as_u16();
    if response.status().is_success() {
        let what = format!("an answer that cannot be read ({})", root_cause(&error));
        return malformed(upstream, &what);
    }
    let said = Said { status: Some(status), code: error.code(), message: error.message() };
    let mut attempt = said.failure(upstream);
    attempt.failure.retry_after = pause(response.headers());
    attempt
}

/// The failure of a stream that broke off, be it by an exception within it.
pub(super) fn of_stream<E, R>(error: SdkError<E, R>, upstream: &Upstream) -> AttemptFailure
where
    E: Error + ProvideErrorMetadata + 'static,
    R: Debug + 'static,
{
    if let Some(attempt) = of_our_own(&error, upstream) {
        return attempt;
    }
    match error.code() {
        // The model had begun, which is paid for.
        Some(code) => {
            let said = Said { status: None, code: Some(code), message: error.message() };
            AttemptFailure { was_refused: false, ..said.failure(upstream) }
        }
        None => unknown(&error, upstream),
    }
}

/// A failure that is not the upstream's word: credentials that are not to be had, or one of the transport.
fn of_our_own<E, R>(error: &SdkError<E, R>, upstream: &Upstream) -> Option<AttemptFailure>
where
    E: Error + 'static,
    R: Debug + 'static,
{
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(credentials) = error.downcast_ref::<aws_credential_types::provider::error::CredentialsError>() {
            let words = upstream.clean(&root_cause(credentials));
            let message = format!(
                "{} was not called: there are no credentials to sign with ({words}); name them in `extra_args` of \
                 /configure, as `aws_access_key_id` and `aws_secret_access_key` or as `aws_profile_name`, or give the \
                 daemon the usual variables of AWS",
                upstream.name
            );
            return Some(AttemptFailure::fatal(Failure::new(FailureKind::Auth, message)).refused());
        }
        if let Some(Broken(attempt)) = error.downcast_ref() {
            return Some(attempt.clone());
        }
        cause = error.source();
    }
    None
}

fn unknown<E, R>(error: &SdkError<E, R>, upstream: &Upstream) -> AttemptFailure
where
    E: Error + 'static,
    R: Debug + 'static,
{
    let message = format!("the call to {} broke: {}", upstream.name, root_cause(error));
    Failure::new(FailureKind::Unavailable, upstream.clean(&message)).into()
}

/// What the upstream says of an error.
struct Said<'a> {
    status: Option<u16>,
    /// The exception's name.
    code: Option<&'a str>,
    message: Option<&'a str>,
}

impl Said<'_> {
    fn failure(&self, upstream: &Upstream) -> AttemptFailure {
        let kind = self.kind();
        let opening = if kind == FailureKind::ContextLength { "Input exceeds maximum context length: " } else { "" };
        let answered = match (self.status, self.code) {
            (Some(status), Some(code)) => format!("{status} {code}"),
            (Some(status), None) => status.to_string(),
            (None, code) => code.unwrap_or("with an error").to_owned(),
        };
        let refused = match kind {
            FailureKind::Auth => format!(" and refused {}", upstream.wording.key),
            _ => String::new(),
        };
        let words = self.message.unwrap_or("no reason given");
        let message = upstream.clean(&format!("{opening}{} answered {answered}{refused}: {words}", upstream.name));
        let failure = Failure { status: self.status, ..Failure::new(kind, message) };
        AttemptFailure { is_verdict: is_verdict(self.status, kind), ..AttemptFailure::from(failure) }.refused()
    }

    fn kind(&self) -> FailureKind {
        match self.code {
            Some("ThrottlingException" | "ServiceQuotaExceededException") => FailureKind::RateLimited,
            Some("ModelNotReadyException" | "ServiceUnavailableException" | "InternalServerException") => {
                FailureKind::Unavailable
            }
            Some("ModelTimeoutException") => FailureKind::Timeout,
            Some("ModelErrorException" | "ModelStreamErrorException") => FailureKind::Unavailable,
            Some("AccessDeniedException" | "ExpiredTokenException" | "UnrecognizedClientException") => {
                FailureKind::Auth
            }
            Some("ResourceNotFoundException") => FailureKind::NotFound,
            Some("ValidationException") => FailureKind::InvalidRequest,
            _ => self.status.map_or(FailureKind::Unavailable, by_status),
        }
    }
}

/// How long the upstream asked to be left alone.
fn pause(headers: &Headers) -> Option<Duration> {
    let header =
        |(name, value): (&str, &str)| Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?));
    let headers: HeaderMap = headers.iter().filter_map(header).collect();
    requested_pause(&headers, SystemTime::now())
}

/// The innermost reason: the outer ones only say that something went wrong.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
