//! A JSON request body, read whole, decompressed, within the size limit, and with errors in our shape.

use std::io;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_ENCODING;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use super::error::ApiError;

/// The bytes of a body declared `application/json`.
#[derive(Debug)]
pub struct JsonBody(pub Bytes);

/// How long a body may stand still between two of its pieces: without this, a client that sends a head and no more
/// would hold its connection for ever. Application data of the app; without it bodies may take their time.
#[derive(Debug, Clone, Copy)]
pub struct BodyIdleTimeout(pub Duration);

impl FromRequest for JsonBody {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let unsupported = if !is_json(request) {
            Some("the body must be JSON: send the header `Content-Type: application/json`")
        } else if !is_readable(request) {
            Some("the body's encoding is not known: send it as it is, or with `Content-Encoding: gzip`")
        } else {
            None
        };
        if let Some(message) = unsupported {
            let error = ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", None, None, message);
            return Box::pin(async { Err(error) });
        }
        let mut payload = match request.app_data::<BodyIdleTimeout>() {
            Some(BodyIdleTimeout(limit)) => impatient(payload.take(), *limit, request.clone()),
            None => payload.take(),
        };
        let body = web::Bytes::from_request(request, &mut payload);
        Box::pin(async move { body.await.map(Self).map_err(|error| unreadable(&error)) })
    }
}

/// What has come of a body that was given up. As long as this is there, the server takes the body for one that
/// somebody reads, and closes the connection after the response instead of waiting for the rest.
pub struct GivenUp {
    _payload: Payload,
}

/// The same payload, which fails when none of it comes for as long as `limit`.
fn impatient(payload: Payload, limit: Duration, request: HttpRequest) -> Payload {
    let pieces = stream::unfold(Some((payload, request)), move |rest| async move {
        let (mut payload, request) = rest?;
        match timeout(limit, payload.next()).await {
            Ok(piece) => piece.map(|piece| (piece, Some((payload, request)))),
            Err(_) => {
                request.extensions_mut().insert(GivenUp { _payload: payload });
                Some((Err(PayloadError::Io(io::ErrorKind::TimedOut.into())), None))
            }
        }
    });
    Payload::Stream { payload: Box::pin(pieces) }
}

fn is_json(request: &HttpRequest) -> bool {
    let essence = request.content_type();
    essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json")
}

/// Whether the server decompresses the body; it passes on unchanged what it does not know.
fn is_readable(request: &HttpRequest) -> bool {
    let Some(encoding) = request.headers().get(CONTENT_ENCODING) else { return true };
    let known = ["identity", "gzip", "deflate"];
    encoding.to_str().is_ok_and(|encoding| known.iter().any(|known| encoding.trim().eq_ignore_ascii_case(known)))
}

fn unreadable(error: &actix_web::Error) -> ApiError {
    match error.as_error::<PayloadError>() {
        Some(PayloadError::Overflow) => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request_error",
            None,
            None,
            "the body is too large; send less, or raise `server.body_limit_bytes`",
        ),
        Some(PayloadError::Io(error)) if error.kind() == io::ErrorKind::TimedOut => ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "invalid_request_error",
            Some("request_timeout"),
            None,
            "the body of the request stands still and was given up; send it in one go",
        ),
        _ => {
            let message = "the body could not be read: it breaks off, or is not encoded as `Content-Encoding` says";
            ApiError::bad_request(None, "invalid_value", message)
        }
    }
}
