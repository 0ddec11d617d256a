//! The SDK's requests over our own connections, with a limit to every wait.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_bedrockruntime::config::http::{HttpRequest, HttpResponse};
use aws_sdk_bedrockruntime::config::{HttpClient, RuntimeComponents};
use aws_sdk_bedrockruntime::error::{BoxError, ConnectorError};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use futures_util::future::poll_fn;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use url::Url;

use crate::config::calls::CallSettings;
use crate::providers::http_client::{AnswerBody, Target};
use crate::providers::retry::AttemptFailure;
use crate::providers::thread_clients::ThreadClients;
use crate::providers::upstream::{MAX_BODY_BYTES, Upstream};

/// Sends what the SDK has signed.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: ThreadClients,
    calls: CallSettings,
    upstream: Arc<Upstream>,
}

/// A failure of ours on its way through the SDK.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .0.failure)]
pub(super) struct Broken(pub AttemptFailure);

impl Transport {
    pub fn new(client: ThreadClients, calls: CallSettings, upstream: Arc<Upstream>) -> Self {
        Self { client, calls, upstream }
    }

    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let begun = Instant::now();
        let deadline = begun + self.calls.timeout;
        let first_byte_by = self.calls.first_byte_timeout.map(|limit| begun + limit);
        let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
        let (head, mut body) = request.into_parts();
        let url = Url::parse(&head.uri.to_string()).map_err(|error| ConnectorError::user(error.into()))?;
        let target = Target::new(url);
        let body = whole(&mut body).await.map_err(ConnectorError::user)?;

        let failed = |attempt| ConnectorError::io(Broken(attempt).into());
        let head_by = first_byte_by.map_or(deadline, |limit| limit.min(deadline));
        let asked = self.client.here().send(head.method, &target, head.headers, body.into());
        let answer = match timeout_at(head_by, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(failed(self.upstream.broken(&error, self.calls.connect_timeout))),
            Err(_) if head_by == deadline => return Err(failed(self.upstream.out_of_time(&self.calls))),
            Err(_) => return Err(failed(self.upstream.never_began(&self.calls))),
        };
        let response = http::Response::<AnswerBody>::from(answer).map(|body| {
            SdkBody::from_body_1_x(Limited {
                body,
                patience: Box::pin(sleep_until(deadline)),
                is_waited_for: false,
                deadline,
                first_byte_by,
                received_bytes: 0,
                calls: self.calls,
                upstream: self.upstream,
            })
        });
        HttpResponse::try_from(response).map_err(|error| ConnectorError::other(error.into(), None))
    }
}

impl HttpConnector for Transport {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().send(request))
    }
}

impl HttpClient for Transport {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// A body as one piece. Those of requests are in memory, and mostly one already.
async fn whole(body: &mut SdkBody) -> Result<Bytes, BoxError> {
    let mut all = Bytes::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        if let Ok(piece) = frame?.into_data() {
            all = if all.is_empty() { piece } else { [all, piece].concat().into() };
        }
    }
    Ok(all)
}

/// The body of an answer, for whose end, next piece and size there are limits.
struct Limited {
    body: AnswerBody,
    patience: Pin<Box<Sleep>>,
    /// Somebody waits for its next piece: while nobody does, its silence is none.
    is_waited_for: bool,
    deadline: Instant,
    /// Until the answer has begun.
    first_byte_by: Option<Instant>,
    received_bytes: usize,
    calls: CallSettings,
    upstream: Arc<Upstream>,
}

impl Limited {
    /// Why it is not waited for any longer.
    fn too_late(&self) -> AttemptFailure {
        let now = Instant::now();
        if now >= self.deadline {
            self.upstream.out_of_time(&self.calls)
        } else if self.first_byte_by.is_some_and(|limit| now >= limit) {
            self.upstream.never_began(&self.calls)
        } else {
            self.upstream.fell_silent(&self.calls)
        }
    }

    fn listen(&mut self) {
        let silent_from = Instant::now() + self.calls.idle_timeout;
        let patience = self.first_byte_by.map_or(silent_from, |limit| limit.min(silent_from)).min(self.deadline);
        self.patience.as_mut().reset(patience);
    }
}

impl Body for Limited {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let begins_to_wait = polled.is_pending() && !self.is_waited_for;
        self.is_waited_for = polled.is_pending();
        if begins_to_wait {
            self.listen();
        }
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.first_byte_by = None;
                self.received_bytes += frame.data_ref().map_or(0, Bytes::len);
                if self.received_bytes > MAX_BODY_BYTES {
                    return Poll::Ready(Some(Err(Broken(self.upstream.too_large("body")))));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let connect_timeout = self.calls.connect_timeout;
                Poll::Ready(Some(Err(Broken(self.upstream.broken(&error, connect_timeout)))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.patience.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err(Broken(self.too_late())))),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

/// Limits for what is asked on the way to credentials, which are small answers from near by.
pub(super) fn calls_for_credentials() -> CallSettings {
    CallSettings { timeout: Duration::from_secs(10), first_byte_timeout: None, ..CallSettings::default() }
}
