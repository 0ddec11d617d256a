//! The HTTP clients of the providers: pooled connections, and plain words for what goes wrong before an upstream
//! has answered.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use tokio::net::lookup_host;
use url::Url;

use super::thread_clients::ThreadClients;
use super::tls;
use crate::config::endpoint::may_be_called;
use crate::failure::{Failure, FailureKind};

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
                ThreadClients::new(move || build(transport, tls.clone()))?
            }
        };
        if known.len() >= KEPT {
            known.remove(0);
        }
        known.push((transport, client.clone()));
        Ok(client)
    }
}

/// Builds a client.
///
/// HTTP/1.1 only, unless HTTP/2 is asked for: a vote that is decided drops many calls at once, which over HTTP/2 looks
/// like a rapid-reset attack, while a closed connection is understood everywhere. No redirect is followed, since
/// that would carry the key to another address, and proxies in the environment are not read.
fn build(transport: Transport, tls: Option<ClientConfig>) -> Result<reqwest::Client, String> {
    build_with(transport, tls, |host| async move { Ok(lookup_host((host, 0)).await?.collect()) })
}

/// The same with another way to look up host names.
fn build_with<L, F>(transport: Transport, tls: Option<ClientConfig>, lookup: L) -> Result<reqwest::Client, String>
where
    L: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    // The process may have a provider already: whichever came first serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .retry(reqwest::retry::never())
        .tcp_nodelay(true)
        .connect_timeout(transport.connect_timeout)
        .dns_resolver(Guarded(lookup))
        .user_agent(concat!("itsd/", env!("CARGO_PKG_VERSION")));
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
    builder.build().map_err(|error| root_cause(&error))
}

/// Looks host names up, and holds what comes of it to the outbound policy. The connection is made to the very
/// addresses that were judged, so that a name which leads elsewhere the next time gains nothing.
struct Guarded<L>(L);

impl<L, F> Resolve for Guarded<L>
where
    L: Fn(String) -> F + Send + Sync,
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let found = (self.0)(host.clone());
        Box::pin(async move {
            let mut addresses = found.await?;
            addresses.retain(|address| may_be_called(&host, address.ip()));
            if addresses.is_empty() {
                return Err("its name leads only to addresses that are never called".into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

/// What to say of a call that broke before or while the upstream answered. Never shows more of the address
/// than scheme, host and port.
/// `endpoint` is the field or header that the address comes from.
pub(super) fn describe(error: &reqwest::Error, origin: &str, connect_timeout: Duration, endpoint: &str) -> Failure {
    if error.is_connect() && error.is_timeout() {
        let limit = connect_timeout.as_secs_f64();
        return Failure::new(
            FailureKind::Unavailable,
            format!("could not connect to {origin} within {limit} s; `connect_timeout_ms` sets this limit"),
        );
    }
    if error.is_connect() {
        if let Some(cause) = tls::handshake_error(error).and_then(tls::refused_certificate) {
            return Failure::new(FailureKind::Unavailable, format!("could not connect to {origin}: {cause}"));
        }
        let cause = root_cause(error);
        return Failure::new(
            FailureKind::Unavailable,
            format!("could not connect to {origin}: {cause}; is it running, and is `{endpoint}` right?"),
        );
    }
    if error.is_timeout() {
        return Failure::new(FailureKind::Timeout, format!("{origin} did not answer in time"));
    }
    if error.is_builder() {
        return Failure::new(FailureKind::Internal, format!("could not form a request to {origin}"));
    }
    Failure::new(FailureKind::Unavailable, format!("the connection to {origin} broke: {}", root_cause(error)))
}

/// Whether an error is that of a server which answers HTTP/1.1 where HTTP/2 is spoken without having been offered: its
/// first letters, read as the length of a frame, are more than any may have.
pub(super) fn speaks_no_http2(error: &reqwest::Error) -> bool {
    root_cause(error).contains("frame with invalid size")
}

/// The innermost reason, which is the one that names a fact; the outer ones repeat the address.
fn root_cause(error: &reqwest::Error) -> String {
    if let Some(rustls::Error::InvalidMessage(_)) = tls::handshake_error(error) {
        return "it does not speak TLS (http:// instead of https://?)".to_owned();
    }
    let mut cause = error.source();
    let mut text = None;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && let Some(words) = io_cause(error)
        {
            return words.to_owned();
        }
        text = Some(error.to_string());
        cause = error.source();
    }
    text.unwrap_or_else(|| "no reason given".to_owned())
}

fn io_cause(error: &io::Error) -> Option<&'static str> {
    // One travels inside another, where a walk along the sources does not come by.
    if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return io_cause(inner);
    }
    Some(match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset",
        io::ErrorKind::ConnectionAborted => "connection aborted",
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => "the upstream closed it",
        io::ErrorKind::HostUnreachable => "no route to the host",
        io::ErrorKind::NetworkUnreachable => "the network is unreachable",
        io::ErrorKind::TimedOut => "no answer in time",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Asks `http://host:port` where every name leads to `addresses`.
    async fn ask(host: &str, port: u16, addresses: &[&str]) -> Result<u16, Failure> {
        let addresses: Vec<SocketAddr> =
            addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect();
        let url: Url = format!("http://{host}:{port}/v1").parse().unwrap();
        let transport = Transport::to(&url, false, Duration::from_secs(10));
        let client = build_with(transport, None, move |_| std::future::ready(Ok(addresses.clone()))).unwrap();
        let answer = client.get(url).send().await;
        answer
            .map(|answer| answer.status().as_u16())
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
