//! HTTP clients that stay with their threads.
//!
//! A connection is served by a task of the runtime that opened it. Where a call and its connection live on one
//! thread, no other thread has to wake up for it, which is a good part of what a call costs.

use std::fmt;
use std::sync::Arc;

use thread_local::ThreadLocal;
use tokio::runtime::{Handle, RuntimeFlavor};

/// One client for all threads of a multi-threaded runtime, and one for each thread with a runtime of its own. Cheap to
/// clone; every clone is the same clients.
#[derive(Clone)]
pub(super) struct ThreadClients(Arc<Clients>);

struct Clients {
    shared: reqwest::Client,
    own: ThreadLocal<reqwest::Client>,
    /// `None` where every thread takes the shared one.
    build: Option<Box<Build>>,
}

type Build = dyn Fn() -> Result<reqwest::Client, String> + Send + Sync;

impl ThreadClients {
    /// Clients that `build` makes, each with connections of its own.
    ///
    /// # Errors
    ///
    /// As `build`.
    pub fn new(build: impl Fn() -> Result<reqwest::Client, String> + Send + Sync + 'static) -> Result<Self, String> {
        Ok(Self(Arc::new(Clients { shared: build()?, own: ThreadLocal::new(), build: Some(Box::new(build)) })))
    }

    /// The same client everywhere, for connections that are too dear to have some for each thread.
    pub fn shared(client: reqwest::Client) -> Self {
        Self(Arc::new(Clients { shared: client, own: ThreadLocal::new(), build: None }))
    }

    /// The client for a call that is made here.
    pub fn here(&self) -> &reqwest::Client {
        let Clients { shared, own, build } = &*self.0;
        let is_alone = || Handle::try_current().is_ok_and(|it| it.runtime_flavor() == RuntimeFlavor::CurrentThread);
        match build {
            // What was built once can be built again; should it fail, there is still the first.
            Some(build) if is_alone() => own.get_or(|| build().unwrap_or_else(|_| shared.clone())),
            _ => shared,
        }
    }
}

impl fmt::Debug for ThreadClients {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ThreadClients").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers with 204 and counts its connections.
    async fn server(connections: &'static AtomicUsize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    while socket.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {
                        let _ = socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                    }
                });
            }
        });
        address
    }

    /// Calls twice on each of two threads with a runtime of their own, then twice on the runtime of many threads.
    async fn connections_of_six_calls(clients: ThreadClients) -> usize {
        let connections: &'static AtomicUsize = Box::leak(Box::default());
        let address = server(connections).await;
        let twice = async move |clients: ThreadClients| {
            for _ in 0..2 {
                let answer = clients.here().get(format!("http://{address}/")).send().await.unwrap();
                assert_eq!(answer.status(), 204);
            }
        };
        // Both live until the end: what is opened on a runtime goes with it.
        let own: Vec<_> = (0..2)
            .map(|_| {
                let clients = clients.clone();
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(twice(clients));
                    runtime
                })
            })
            .collect();
        let join = tokio::task::spawn_blocking(|| own.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>());
        let own = join.await.unwrap();
        twice(clients).await;
        own.into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
        connections.load(Ordering::Relaxed)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_thread_with_a_runtime_of_its_own_keeps_its_connections_to_itself() {
        let build = || reqwest::Client::builder().no_proxy().tls_certs_only([]).build().map_err(|it| it.to_string());
        let _ = rustls::crypto::ring::default_provider().install_default();
        assert_eq!(connections_of_six_calls(ThreadClients::new(build).unwrap()).await, 3);
    }
}
