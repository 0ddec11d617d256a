//! Host names, and where they may lead.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;
use tower_service::Service;

use crate::config::endpoint::may_be_called;

/// Looks host names up, and holds what comes of it to the outbound policy. The connection is made to the very
/// addresses that were judged, so that a name which leads elsewhere the next time gains nothing.
#[derive(Clone)]
pub(super) struct Lookup(Arc<Find>);

type Find = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;
type BoxError = Box<dyn Error + Send + Sync>;

impl Lookup {
    /// By the system.
    pub fn system() -> Self {
        Self::by(|host| async move { Ok(lookup_host((host, 0)).await?.collect()) })
    }

    /// In another way.
    pub fn by<F>(find: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Self(Arc::new(move |host| find(host).boxed()))
    }

    async fn addresses(self, host: String) -> Result<vec::IntoIter<SocketAddr>, BoxError> {
        let mut addresses = (self.0)(host.clone()).await?;
        addresses.retain(|address| may_be_called(&host, address.ip()));
        if addresses.is_empty() {
            return Err("its name leads only to addresses that are never called".into());
        }
        Ok(addresses.into_iter())
    }
}

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.clone().addresses(name.as_str().to_owned());
        Box::pin(async move {
            let addresses: Addrs = Box::new(found.await?);
            Ok(addresses)
        })
    }
}

impl Service<dns::Name> for Lookup {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: dns::Name) -> Self::Future {
        self.clone().addresses(name.as_str().to_owned()).boxed()
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lookup").finish_non_exhaustive()
    }
}
