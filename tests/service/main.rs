//! Tests over real sockets, in one binary.

#[allow(dead_code, reason = "the program around the same server uses the rest")]
#[path = "../upstream/server.rs"]
mod upstream;

mod answers;
mod app;
mod azure;
mod bodies;
mod cancel_requests;
mod cancellation;
mod capabilities;
mod chosen_runs;
mod confidence;
mod configuration;
mod destinations;
mod documentation;
mod environment_made;
mod failures;
mod fidelity;
mod grading;
mod judge;
mod judge_lessons;
mod layering;
mod limits;
mod log_watch;
mod metrics;
mod mixture;
mod operations;
mod own_keys;
mod progress;
mod provider;
mod provider_accounts;
mod provider_documents;
mod provider_failures;
mod provider_limits;
mod provider_quirks;
mod provider_requests;
mod provider_streams;
mod refusals;
mod request_lines;
mod revisions;
mod robustness;
mod secrecy;
mod strategies;
mod stop_rules;
mod streams;
mod swap;
mod text_completions;
mod told_usage;
mod votes;
mod wait;
