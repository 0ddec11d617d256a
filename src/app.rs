//! The daemon put together: bind, serve until told to stop, and stop in order.
//!
//! Building is separate from running, so that a test can bind port 0, learn the port and drive the very
//! service that `itsd serve` runs.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::web::{Data, PayloadConfig};
use actix_web::{App, HttpServer};
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::config::Settings;
use crate::http::body::BodyIdleTimeout;
use crate::http::chat::Running;
use crate::http::host::{HostPolicy, check_host};
use crate::http::request_log::record_request;
use crate::http::{AppState, routes};
use crate::runtime::Runtime;

/// Idle client connections are kept this long; a drain waits for them no longer than that either.
const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A client must have sent the head of its request within this time.
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// So many connections may come at once; the system may hold fewer.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CONNECTION_BACKLOG: i32 = 4096;
/// How long the clients of requests that are ended at a shutdown may take to read that they are.
const LAST_WORDS_S: u64 = 1;

/// A daemon that lacks only to be run: the address is taken, nothing is served yet.
pub struct Application {
    pub address: SocketAddr,
    server: Server,
    running: Running,
    drain_time: Duration,
}

/// The means to stop a running application.
#[derive(Clone)]
pub struct Stopper {
    handle: ServerHandle,
    running: Running,
    drain_time: Duration,
}

/// Why the daemon could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(
        "{address} is reachable from other machines and there are no API keys; keep 127.0.0.1 and reach it by\n  \
         ssh -N -L {port}:localhost:{port} user@this-host\nor, on a network you trust, start it with\n  \
         itsd serve --host {host} --allow-unauthenticated\n\
         (or ITSD_ALLOW_UNAUTHENTICATED=1)",
        port = address.port(), host = address.ip()
    )]
    Unauthenticated { address: SocketAddr },
    #[error("{host} is not an address of this machine: {cause}")]
    UnknownHost { host: String, cause: io::Error },
    #[error("cannot listen on {address}: {cause}; is another itsd running? --port 0 picks a free port")]
    Bind { address: SocketAddr, cause: io::Error },
}

/// Takes the configured address. Connections wait until an [`Application`] serves them.
///
/// # Errors
///
/// [`BuildError`]: an address that cannot be bound, or must not be without keys.
pub fn bind(settings: &Settings) -> Result<TcpListener, BuildError> {
    let server = &settings.server;
    let address = resolve(&server.host, server.port)?;
    if !address.ip().is_loopback() && !server.allow_unauthenticated {
        return Err(BuildError::Unauthenticated { address });
    }
    let listener = TcpListener::bind(address).map_err(|cause| BuildError::Bind { address, cause })?;
    queue_more(&listener).map_err(|cause| BuildError::Bind { address, cause })?;
    Ok(listener)
}

impl Application {
    /// Puts the service behind a bound listener. Runs will live on `workers`.
    ///
    /// # Errors
    ///
    /// When the listener breaks.
    pub fn build(
        settings: &Settings,
        listener: TcpListener,
        runtime: Arc<Runtime>,
        workers: Handle,
    ) -> io::Result<Self> {
        let server = &settings.server;
        let address = listener.local_addr()?;
        let hosts = if address.ip().is_loopback() {
            HostPolicy::loopback(server.allowed_hosts.iter().cloned())
        } else {
            HostPolicy::any()
        };
        limit_unread(&listener, server.unread_timeout)?;
        let running = Running::default();
        let metrics = Arc::clone(runtime.metrics());
        let state = Data::new(AppState {
            runtime,
            metrics,
            workers,
            hosts,
            running: running.clone(),
            keep_alive: server.stream_keep_alive,
            unread_timeout: server.unread_timeout,
        });
        let body_limit_bytes = server.body_limit_bytes;
        let body_idle_timeout = BodyIdleTimeout(server.body_idle_timeout);
        let drain_time = Duration::from_secs(server.shutdown_timeout_s);
        let server = HttpServer::new({
            move || {
                App::new()
                    .app_data(state.clone())
                    .app_data(PayloadConfig::new(body_limit_bytes))
                    .app_data(body_idle_timeout)
                    .wrap(from_fn(check_host))
                    .wrap(from_fn(record_request))
                    .configure(routes)
            }
        })
        // Without this a client that hangs up while it waits would leave its run, and its bill, running.
        .h1_allow_half_closed(false)
        // The chunks of a stream are small, and none may wait until the one before has been acknowledged.
        .tcp_nodelay(true)
        .keep_alive(CLIENT_KEEP_ALIVE)
        .client_request_timeout(REQUEST_HEAD_TIMEOUT)
        .workers(server.workers)
        .shutdown_timeout(server.shutdown_timeout_s + LAST_WORDS_S)
        .disable_signals()
        .listen(listener)?
        .run();
        Ok(Self { address, server, running, drain_time })
    }

    pub fn stopper(&self) -> Stopper {
        Stopper { handle: self.server.handle(), running: self.running.clone(), drain_time: self.drain_time }
    }

    /// Serves until stopped.
    ///
    /// # Errors
    ///
    /// When the listener breaks.
    pub async fn run(self) -> io::Result<()> {
        self.server.await
    }
}

impl Stopper {
    /// Stops accepting, lets running requests finish within the drain time, then ends them with their
    /// upstream calls and tells their clients. Returns when everything has ended.
    pub async fn drain(&self) {
        let stopped = self.handle.stop(true);
        tokio::pin!(stopped);
        tokio::select! {
            biased;
            () = &mut stopped => return,
            () = sleep(self.drain_time) => {}
        }
        self.running.close();
        stopped.await;
    }

    /// Ends running requests at once with their upstream calls, and gives their clients a moment to be told.
    pub async fn end(&self) {
        self.running.close();
        sleep(Duration::from_secs(LAST_WORDS_S)).await;
    }
}

/// Has the system hold more connections until they are accepted than the 128 of the standard library. One beyond them is
/// dropped, and its client tries again only after a second.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn queue_more(listener: &TcpListener) -> io::Result<()> {
    socket2::SockRef::from(listener).listen(CONNECTION_BACKLOG)
}

/// Elsewhere it holds as many as it does.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn queue_more(_: &TcpListener) -> io::Result<()> {
    Ok(())
}

/// Has the system close a connection whose client takes nothing of what there is for it for so long. The server polls a
/// body only when there is room for more of it, and could not close such a connection itself.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn limit_unread(listener: &TcpListener, patience: Duration) -> io::Result<()> {
    // The connections inherit it from their listener.
    socket2::SockRef::from(listener).set_tcp_user_timeout(Some(patience))
}

/// Elsewhere such a connection lasts until the system itself gives it up.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn limit_unread(_: &TcpListener, _: Duration) -> io::Result<()> {
    Ok(())
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, BuildError> {
    let unknown = |cause| BuildError::UnknownHost { host: host.to_owned(), cause };
    let name = host.trim_matches(['[', ']']);
    (name, port)
        .to_socket_addrs()
        .map_err(unknown)?
        .next()
        .ok_or_else(|| unknown(io::Error::from(io::ErrorKind::AddrNotAvailable)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::config::cli::ServeArguments;

    fn settings(host: &str, port: u16) -> Settings {
        let arguments = ServeArguments { host: Some(host.to_owned()), port: Some(port), ..ServeArguments::default() };
        Settings::load(&arguments, &Environment::default()).unwrap()
    }

    #[test]
    fn a_port_that_is_taken_is_told_by_its_number() {
        let taken = bind(&settings("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind(&settings("127.0.0.1", port)).unwrap_err().to_string();
        assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("another itsd"), "{error}");
    }

    #[test]
    fn an_address_that_others_reach_is_refused_while_nobody_needs_a_key() {
        let error = bind(&settings("0.0.0.0", 0)).unwrap_err();
        assert!(matches!(error, BuildError::Unauthenticated { .. }), "{error}");
        let allowed = settings("0.0.0.0", 0);
        let server = crate::config::server::ServerSettings { allow_unauthenticated: true, ..allowed.server.clone() };
        assert!(bind(&Settings { server, ..allowed }).is_ok());
    }
}
