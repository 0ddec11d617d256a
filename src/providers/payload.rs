//! The body of a request.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// A body in two parts, of which the first may be shared between calls, so that a long prompt is not copied for each of
/// them: the parts still to send, last first.
#[derive(Debug, Clone, Default)]
pub(super) struct Payload([Bytes; 2]);

impl Payload {
    pub fn new(first: Bytes, last: Bytes) -> Self {
        Self([last, first])
    }
}

impl From<Bytes> for Payload {
    fn from(whole: Bytes) -> Self {
        Self::new(whole, Bytes::new())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(whole: Vec<u8>) -> Self {
        Bytes::from(whole).into()
    }
}

impl http_body::Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.0.iter_mut().rev().find(|part| !part.is_empty()).map(std::mem::take);
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}
