//! Tests over real sockets, in one binary.

#[allow(dead_code, reason = "the program around the same server uses the rest")]
#[path = "../upstream/server.rs"]
mod upstream;

mod app;
mod cancellation;
mod failures;
mod fidelity;
mod provider;
mod provider_failures;
mod provider_limits;
mod provider_requests;
mod provider_streams;
mod streams;
mod swap;
mod votes;
