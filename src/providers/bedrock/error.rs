//! What went wrong with a call, turned into one of our failures: what the upstream answered, what broke within a stream,
//! and what is not the upstream's word.

use std::error::Error;
use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_bedrockruntime::config::http::HttpResponse;
use aws_sdk_bedrockruntime::error::SdkError;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::event_stream::{Message, RawMessage};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::client::Server;
use super::said::Said;
use super::strike::strike;
use super::transport::Broken;
use crate::failure::{Failure, FailureKind};
use crate::providers::retry::{AttemptFailure, requested_pause};
use crate::providers::upstream::{Upstream, malformed};

/// The failure of a call that came to no answer.
pub(super) fn of_call<E>(error: SdkError<E, HttpResponse>, server: &Server) -> AttemptFailure
where
    E: Error + 'static,
{
    let upstream = &server.upstream;
    if let Some(attempt) = of_our_own(&error, upstream) {
        return attempt;
    }
    let Some(response) = error.raw_response() else { return unknown(&error, upstream) };
    if response.status().is_success() {
        let what = format!("an answer that cannot be read ({})", root_cause(&error));
        return malformed(upstream, &strike(&what));
    }
    // The SDK knows the errors of its service model, and gateways have others.
    let body = response.body().bytes().unwrap_or_default();
    let said = Said::of_response(response.status().as_u16(), response.headers().get("x-amzn-errortype"), body);
    let mut attempt = said.failure(upstream);
    attempt.failure.retry_after = pause(response.headers());
    attempt
}

/// The failure of a stream that broke off, be it by an exception within it.
pub(super) fn of_stream<E>(error: SdkError<E, RawMessage>, upstream: &Upstream) -> AttemptFailure
where
    E: Error + 'static,
{
    if let Some(attempt) = of_our_own(&error, upstream) {
        return attempt;
    }
    match error.raw_response() {
        // Whatever its name is, the model had begun, which is paid for.
        Some(RawMessage::Decoded(message)) => match exception(message) {
            Some(said) => AttemptFailure { was_refused: false, ..said.failure(upstream) },
            None => malformed(upstream, &format!("an event that cannot be read ({})", root_cause(&error))),
        },
        // Half a message is left over.
        Some(RawMessage::Invalid(Some(_))) => {
            let message = format!("{} broke off its stream in the middle of an event", upstream.name);
            Failure::new(FailureKind::Unavailable, message).into()
        }
        Some(_) => malformed(upstream, &format!("a stream that cannot be read ({})", root_cause(&error))),
        None => unknown(&error, upstream),
    }
}

/// What a message says that is an exception of the service model, or an error that is not in it.
fn exception(message: &Message) -> Option<Said> {
    let header = |name: &str| {
        let header = message.headers().iter().find(|header| header.name().as_str() == name)?;
        header.value().as_string().ok().map(|value| value.as_str().to_owned())
    };
    match header(":message-type")?.as_str() {
        "exception" => Some(Said::of_exception(&header(":exception-type")?, message.payload())),
        "error" => Some(Said::of_error(header(":error-code"), header(":error-message"))),
        _ => None,
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
        match error.downcast_ref() {
            Some(CredentialsError::ProviderTimedOut(limit)) => {
                return Some(unsigned_in_time(limit.timeout_duration(), "", upstream));
            }
            Some(_) => return Some(unsigned("none are to be had where they are looked for", upstream)),
            None => {}
        }
        if let Some(Broken(attempt)) = error.downcast_ref() {
            return Some(attempt.clone());
        }
        cause = error.source();
    }
    None
}

/// The failure of a call for which no credentials came within `limit`; `who_sets` goes on about that. Nothing was sent.
pub(super) fn unsigned_in_time(limit: Duration, who_sets: &str, upstream: &Upstream) -> AttemptFailure {
    unsigned(&format!("none came within {} s{who_sets}", limit.as_secs_f64()), upstream)
}

/// What the SDK says of it is for the operator alone: it quotes what processes print and where files are.
fn unsigned(why: &str, upstream: &Upstream) -> AttemptFailure {
    let message = format!(
        "{} was not called: there are no credentials to sign with ({why}; the daemon's log says more); name them in \
         `extra_args` of /configure, as `aws_access_key_id` and `aws_secret_access_key` or as `aws_profile_name`, or \
         give the daemon the usual variables of AWS",
        upstream.name
    );
    AttemptFailure::fatal(Failure::new(FailureKind::Auth, message)).refused()
}

fn unknown<E, R>(error: &SdkError<E, R>, upstream: &Upstream) -> AttemptFailure
where
    E: Error + 'static,
    R: Debug + 'static,
{
    let message = format!("the call to {} broke: {}", upstream.name, root_cause(error));
    Failure::new(FailureKind::Unavailable, strike(&upstream.clean(&message))).into()
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
