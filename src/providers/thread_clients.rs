//! HTTP clients that stay with their threads.
//!
//! A connection is served by a task of the runtime that opened it, and ends with that runtime. A call must not depend
//! on another thread's: a thread that serves clients ends as soon as its own have gone, while calls go on elsewhere.
//! Where a call and its connection live on one thread, no other thread has to wake up for it either, which is a good
//! part of what a call costs.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use thread_local::ThreadLocal;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::http_client::{Client, Target};

/// One client for all threads of a multi-threaded runtime, and one for each thread with a runtime of its own. Cheap to
/// clone; every clone is the same clients.
#[derive(Clone)]
pub(super) struct ThreadClients(Arc<Clients>);

struct Clients {
    shared: Client,
    own: ThreadLocal<Client>,
    build: Box<Build>,
}

type Build = dyn Fn() -> Result<Client, String> + Send + Sync;

impl ThreadClients {
    /// Clients that `build` makes, each with connections of its own.
    ///
    /// # Errors
    ///
    /// As `build`.
    pub fn new(build: impl Fn() -> Result<Client, String> + Send + Sync + 'static) -> Result<Self, String> {
        Ok(Self(Arc::new(Clients { shared: build()?, own: ThreadLocal::new(), build: Box::new(build) })))
    }

    /// Adds the headers that are the same for every request to a target, as any of the clients does.
    pub fn dress(&self, headers: &mut HeaderMap, target: &Target) {
        self.0.shared.dress(headers, target);
    }

    /// The client for a call that is made here.
    pub fn here(&self) -> &Client {
        let Clients { shared, own, build } = &*self.0;
        let is_alone = || Handle::try_current().is_ok_and(|it| it.runtime_flavor() == RuntimeFlavor::CurrentThread);
        if is_alone() {
            // What was built once can be built again; should it fail, there is still the first.
            own.get_or(|| build().unwrap_or_else(|_| shared.clone()))
        } else {
            shared
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
    use std::sync::Barrier;
    use std::thread;
    use std::time::Duration;

    use tokio::runtime::Builder;

    use super::*;
    use crate::providers::http_client::Transport;
    use crate::providers::lookup::Lookup;

    fn build() -> Result<Client, String> {
        let transport = Transport { tls: false, http2: false, connect_timeout: Duration::from_secs(1) };
        Client::new(transport, None, Lookup::system())
    }

    /// Where the clients of two threads with a runtime of their own lie, and that of a runtime of many threads.
    fn clients_of_three_runtimes(clients: &ThreadClients) -> [usize; 3] {
        let here = || std::ptr::from_ref(clients.here()).addr();
        // A thread that has ended leaves its place to the next.
        let both_are_there = Barrier::new(2);
        let on_a_thread = || {
            let runtime = Builder::new_current_thread().build().unwrap();
            let client = runtime.block_on(async { here() });
            both_are_there.wait();
            assert_eq!(runtime.block_on(async { here() }), client, "the same call after call");
            client
        };
        let many = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        thread::scope(|scope| {
            let own = [scope.spawn(on_a_thread), scope.spawn(on_a_thread)];
            let [one, other] = own.map(|thread| thread.join().unwrap());
            [one, other, many.block_on(async { here() })]
        })
    }

    #[test]
    fn every_thread_with_a_runtime_of_its_own_has_a_client_of_its_own() {
        let [one, other, many] = clients_of_three_runtimes(&ThreadClients::new(build).unwrap());
        assert!(one != other && one != many && other != many);
    }
}
