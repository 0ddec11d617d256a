//! The HTTP clients of the providers: pooled connections, of one kind or another, behind one way to use them.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::{Body, Frame};
use parking_lot::Mutex;
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use url::Url;

use super::http_error::{HttpError, root_cause};
use super::lookup::Lookup;
use super::payload::Payload;
use super::plain;
use super::thread_clients::ThreadClients;
use super::tls;

/// So many clients are kept although nobody uses them at the moment.
const KEPT: usize = 8;

/// What makes two clients the same one: neither address nor key is part of it, since connections are pooled by origin
/// and credentials belong to requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transport {
    /// Whether it speaks TLS.
    pub tls: bool,
    pub http2: bool,
    pub connect_timeout: Duration,
}

impl Transport {
    pub fn to(url: &Url, http2: bool, connect_timeout: Duration) -> Self {
        Self { tls: url.scheme() == "https", http2, connect_timeout }
    }

    /// Whether another connection costs next to nothing: it is not secured, and carries one call at a time.
    pub fn is_cheap(&self) -> bool {
        !self.tls && !self.http2
    }
}

/// The clients, for each transport those of all threads. The first reads the system's certificates, so that requests
/// which bring their own endpoint share it with all others; a few that were used last are kept, and no more.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// The last used last.
    known: Mutex<Vec<(Transport, ThreadClients)>>,
}

impl Clients {
    /// The client for a transport, made if there is none.
    ///
    /// # Errors
    ///
    /// The reason, for TLS when the system's certificates cannot be read. Plain `http` does not need them.
    pub fn client(&self, transport: Transport) -> Result<ThreadClients, String> {
        let mut known = self.known.lock();
        let client = match known.iter().position(|(other, _)| *other == transport) {
            Some(at) => known.remove(at).1,
            None => {
                let tls = transport.tls.then(|| tls::settings(transport.http2)).transpose()?;
                ThreadClients::new(move || Client::new(transport, tls.clone(), Lookup::system()))?
            }
        };
        if known.len() >= KEPT {
            known.remove(0);
        }
        known.push((transport, client.clone()));
        Ok(client)
    }
}

/// A client with connections of its own. Cheap to clone; every clone has the same ones.
///
/// HTTP/1.1 only, unless HTTP/2 is asked for: a vote that is decided drops many calls at once, which over HTTP/2 looks
/// like a rapid-reset attack, while a closed connection is understood everywhere. No redirect is followed, since
/// that would carry the key to another address, and proxies in the environment are not read.
#[derive(Debug, Clone)]
pub(super) enum Client {
    /// For connections that cost next to nothing.
    Plain(plain::Client),
    /// For all others.
    Full(reqwest::Client),
}

/// Where requests go, in the forms in which clients want it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub url: Url,
    plain: Option<plain::Address>,
}

/// An answer of which the head is here. Dropping it before its end closes its connection.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: AnswerBody,
}

/// The rest of an answer.
#[derive(Debug)]
pub(super) enum AnswerBody {
    Plain(plain::Body),
    Full(reqwest::Body),
}

impl Client {
    /// A client that looks host names up in this way.
    ///
    /// # Errors
    ///
    /// The reason why there can be none.
    pub fn new(transport: Transport, tls: Option<ClientConfig>, lookup: Lookup) -> Result<Self, String> {
        if transport.is_cheap() {
            return Ok(Self::Plain(plain::Client::new(lookup, transport.connect_timeout)));
        }
        // The process may have a provider already: whichever came first serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .tcp_nodelay(true)
            .connect_timeout(transport.connect_timeout)
            .dns_resolver(lookup)
            .user_agent(plain::AGENT);
        builder = match transport {
            Transport { http2: false, .. } => builder.http1_only(),
            // The server chooses while the connection is secured.
            Transport { tls: true, .. } => builder,
            // There is nothing to choose by: the server must be known to speak it.
            Transport { tls: false, .. } => builder.http2_prior_knowledge(),
        };
        builder = match tls {
            Some(settings) => builder.tls_backend_preconfigured(settings),
            // No redirect is followed, so that TLS never happens: an empty set of certificates keeps a machine
            // without any from failing here.
            None => builder.tls_certs_only([]),
        };
        builder.build().map(Self::Full).map_err(|error| root_cause(&error))
    }

    /// Adds the headers that are the same for every request to a target, so that they are not added to each.
    pub fn dress(&self, headers: &mut HeaderMap, target: &Target) {
        if let (Self::Plain(_), Some(address)) = (self, &target.plain) {
            plain::dress(headers, address);
        }
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    ///
    /// When the address is none, there is no connection, or it breaks.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection, or over HTTP/2 resets the stream.
    pub async fn send(
        &self,
        method: Method,
        target: &Target,
        headers: HeaderMap,
        body: Payload,
    ) -> Result<Answer, HttpError> {
        match self {
            Self::Plain(client) => {
                let address = target.plain.as_ref().ok_or(HttpError::Unformed)?;
                let mut request = Request::new(body);
                *request.method_mut() = method;
                *request.headers_mut() = headers;
                let (head, body) = client.send(address, request).await?.into_parts();
                Ok(Answer { status: head.status, headers: head.headers, body: AnswerBody::Plain(body) })
            }
            Self::Full(client) => {
                let mut request = reqwest::Request::new(method, target.url.clone());
                *request.headers_mut() = headers;
                *request.body_mut() = Some(reqwest::Body::wrap(body));
                let answer: http::Response<reqwest::Body> = client.execute(request).await?.into();
                let (head, body) = answer.into_parts();
                Ok(Answer { status: head.status, headers: head.headers, body: AnswerBody::Full(body) })
            }
        }
    }
}

impl Target {
    pub fn new(url: Url) -> Self {
        let plain = plain::Address::new(&url);
        Self { url, plain }
    }
}

impl Answer {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or what has come cannot be unpacked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let frame = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await;
            // Trailers say nothing here.
            match frame.transpose()?.map(Frame::into_data) {
                Some(Ok(piece)) => return Ok(Some(piece)),
                Some(Err(_)) => {}
                None => return Ok(None),
            }
        }
    }
}

impl From<Answer> for http::Response<AnswerBody> {
    fn from(answer: Answer) -> Self {
        let mut response = Self::new(answer.body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match self.get_mut() {
            Self::Plain(body) => Pin::new(body).poll_frame(context),
            Self::Full(body) => Pin::new(body).poll_frame(context).map_err(HttpError::Full),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::failure::{Failure, FailureKind};
    use crate::providers::http_error::describe;

    /// Asks `http://host:port` where every name leads to `addresses`.
    async fn ask(host: &str, port: u16, addresses: &[&str]) -> Result<u16, Failure> {
        let addresses: Vec<SocketAddr> =
            addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect();
        let url: Url = format!("http://{host}:{port}/v1").parse().unwrap();
        let transport = Transport::to(&url, false, Duration::from_secs(10));
        let lookup = Lookup::by(move |_| std::future::ready(Ok(addresses.clone())));
        let client = Client::new(transport, None, lookup).unwrap();
        let answer = client.send(Method::GET, &Target::new(url), HeaderMap::new(), Payload::default()).await;
        answer
            .map(|answer| answer.status.as_u16())
            .map_err(|error| describe(&error, "http://the-origin", transport.connect_timeout, "endpoint"))
    }

    #[tokio::test]
    async fn a_name_is_connected_to_only_where_it_may_lead() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let _ = socket.read(&mut [0; 1024]).await;
                let _ = socket.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
            }
        });
        assert_eq!(ask("upstream.example", port, &["127.0.0.1"]).await.unwrap(), 204);
        // What must not be called is passed over.
        assert_eq!(ask("upstream.example", port, &["169.254.169.254", "127.0.0.1"]).await.unwrap(), 204);
        for (host, addresses) in
            [("upstream.example", &["169.254.169.254", "fe80::1"][..]), ("gpu.localhost", &["10.0.0.7"][..])]
        {
            let failure = ask(host, port, addresses).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Unavailable);
            assert!(failure.message.contains("never called"), "{}", failure.message);
        }
    }

    #[test]
    fn a_client_is_made_once_for_each_transport_and_few_are_kept() {
        let clients = Clients::default();
        let plain = |ms| Transport { tls: false, http2: false, connect_timeout: Duration::from_millis(ms) };
        for ms in 0..100 {
            clients.client(plain(ms)).unwrap();
            clients.client(plain(0)).unwrap();
        }
        let kept: Vec<Transport> = clients.known.lock().iter().map(|(transport, _)| *transport).collect();
        let expected: Vec<Transport> = (93..100).chain([0]).map(plain).collect();
        assert_eq!(kept, expected);
    }
}
