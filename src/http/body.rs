//! A JSON request body, read whole, decompressed, within the size limit, and with errors in our shape.

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
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
        if !is_json(request) {
            let message = "the body must be JSON: send the header `Content-Type: application/json`";
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

fn unreadable(error: &actix_web::Error) -> ApiError {
    match error.as_error::<PayloadError>() {
        Some(PayloadError::Overflow) => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request_error",
            None,
            None,
            "the body is too large; send less, or raise `server.body_limit_bytes`",
        ),
        _ => ApiError::bad_request(None, "invalid_value", format!("the body could not be read: {error}")),
    }
}
