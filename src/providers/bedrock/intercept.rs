//! What is done to an answer before the SDK reads it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aws_sdk_bedrockruntime::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_bedrockruntime::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_bedrockruntime::error::BoxError;
use aws_smithy_types::body::SdkBody;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use parking_lot::Mutex;

use super::transport::Broken;
use crate::providers::upstream::{Upstream, malformed};

/// Keeps the text of a whole answer, in which objects have an order and numbers their digits, and gives the SDK an empty
/// one: what it would make of the answer is not needed, and what it could not read would be lost. Errors stay its own.
#[derive(Debug, Clone, Default)]
pub(super) struct KeptAnswer {
    body: Arc<Mutex<Option<Bytes>>>,
}

impl KeptAnswer {
    /// The answer, once the call has ended well.
    pub fn take(&self) -> Option<Bytes> {
        self.body.lock().take()
    }
}

impl Intercept for KeptAnswer {
    fn name(&self) -> &'static str {
        "KeptAnswer"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if response.status().is_success() {
            let body = std::mem::replace(response.body_mut(), SdkBody::taken());
            let kept = Keeping { body, read: BytesMut::new(), kept: Arc::clone(&self.body), is_over: false };
            *response.body_mut() = SdkBody::from_body_1_x(kept);
        }
        Ok(())
    }
}

/// A body that is read to its end and kept, of which an empty object is told.
struct Keeping {
    body: SdkBody,
    read: BytesMut,
    kept: Arc<Mutex<Option<Bytes>>>,
    is_over: bool,
}

impl Body for Keeping {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        self.read.extend_from_slice(&piece);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.is_over = true;
                    let read = std::mem::take(&mut self.read).freeze();
                    *self.kept.lock() = Some(read);
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"{}")))));
                }
            }
        }
    }
}

/// Refuses a success that is no stream of events, in which the SDK would look for their lengths.
#[derive(Debug)]
pub(super) struct EventsOnly {
    pub upstream: Arc<Upstream>,
}

impl Intercept for EventsOnly {
    fn name(&self) -> &'static str {
        "EventsOnly"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let kind = response.headers().get("content-type").unwrap_or("a body of no kind");
        if !response.status().is_success() || is_event_stream(kind) {
            return Ok(());
        }
        Err(Broken(malformed(&self.upstream, &format!("{kind} instead of a stream of events"))).into())
    }
}

fn is_event_stream(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/vnd.amazon.eventstream")
}
