//! Refuses requests that reach a loopback address under a foreign name.
//!
//! A web page can point a name of its own at 127.0.0.1 (DNS rebinding) and so make a browser talk to the
//! daemon; the `Host` header gives it away.

use std::collections::HashSet;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, ResponseError};

use super::AppState;
use super::error::ApiError;

/// The names under which the daemon may be called; `None` on an address that others reach.
#[derive(Debug, Clone)]
pub struct HostPolicy(Option<HashSet<String>>);

impl HostPolicy {
    /// On loopback: loopback names and those that the operator allows.
    pub fn loopback(allowed: impl IntoIterator<Item = String>) -> Self {
        Self(Some(allowed.into_iter().map(|name| name.to_ascii_lowercase()).collect()))
    }

    /// Behind a bind that is open by choice, any name will do.
    pub fn any() -> Self {
        Self(None)
    }

    fn allows(&self, host: &str) -> bool {
        let Some(allowed) = &self.0 else { return true };
        let name = name_of(host).to_ascii_lowercase();
        matches!(name.as_str(), "localhost" | "[::1]" | "") || is_loopback_v4(&name) || allowed.contains(&name)
    }
}

/// The host without its port.
fn name_of(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

fn is_loopback_v4(name: &str) -> bool {
    name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// The middleware that applies the policy of the app.
pub async fn check_host(
    state: Data<AppState>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let host = request.headers().get("host").map_or(Ok(""), |value| value.to_str());
    match host {
        Ok(host) if state.hosts.allows(host) => Ok(next.call(request).await?.map_into_boxed_body()),
        _ => {
            let message = "this Host name is not allowed on a loopback address; use localhost, or add the name to `server.allowed_hosts`";
            let error = ApiError::new(StatusCode::FORBIDDEN, "permission_error", None, None, message);
            // A response and not an error, so that the layers outside add their headers to it.
            Ok(request.into_response(error.error_response()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_pass_with_and_without_a_port() {
        let policy = HostPolicy::loopback(["gpu.lab".to_owned()]);
        for host in [
            "localhost",
            "localhost:8108",
            "LOCALHOST:1",
            "127.0.0.1:8108",
            "127.9.9.9",
            "[::1]:8108",
            "gpu.lab:80",
            "",
        ] {
            assert!(policy.allows(host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8108", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example"]
        {
            assert!(!policy.allows(host), "{host}");
        }
    }

    #[test]
    fn an_open_bind_takes_any_name() {
        assert!(HostPolicy::any().allows("anything.example"));
    }
}
