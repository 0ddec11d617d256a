//! Tests over real sockets, in one binary.

#[allow(dead_code, reason = "the program around the same server uses the rest")]
#[path = "../upstream/server.rs"]
mod upstream;

mod app;
mod cancellation;
mod configuration;
mod destinations;
mod failures;
mod fidelity;
mod layering;
mod limits;
mod log_watch;
mod operations;
mod provider;
mod provider_accounts;
mod provider_failures;
mod provider_limits;
mod provider_requests;
mod provider_streams;
mod refusals;
mod request_lines;
mod robustness;
mod secrecy;
mod streams;
mod swap;
mod text_completions;
mod votes;
