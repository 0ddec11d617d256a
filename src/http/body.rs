//! A JSON request body, read whole, decompressed, within the size limit, and with errors in our shape.

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_ENCODING;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use super::error::ApiError;

/// The bytes of a body declared `application/json`.
#[derive(Debug)]
pub struct JsonBody(pub Bytes);

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
        let body = web::Bytes::from_request(request, payload);
        Box::pin(async move { body.await.map(Self).map_err(|error| unreadable(&error)) })
    }
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
        _ => {
            let message = "the body could not be read: it breaks off, or is not encoded as `Content-Encoding` says";
            ApiError::bad_request(None, "invalid_value", message)
        }
    }
}
