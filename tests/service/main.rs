//! Tests over real sockets, in one binary.

#[allow(dead_code, reason = "the program around the same server uses the rest")]
#[path = "../upstream/server.rs"]
mod upstream;

#[allow(dead_code, reason = "the program around the same stub uses the rest")]
#[path = "../bedrock_stub/server.rs"]
mod bedrock_stub;

mod almost_done;
mod answers;
mod app;
mod azure;
mod bedrock_answers;
mod bedrock_any_request;
mod bedrock_broken_streams;
mod bedrock_cancellation;
mod bedrock_chaos;
mod bedrock_configuration;
mod bedrock_credentials;
mod bedrock_failures;
mod bedrock_limits;
mod bedrock_probe;
mod bedrock_profiles;
mod bedrock_requests;
mod bedrock_told;
mod bodies;
mod breakers;
mod cancel_requests;
mod cancellation;
mod chaos;
mod cancellation_matrix;
mod capabilities;
mod chosen_runs;
mod confidence;
mod configuration;
mod destinations;
mod documentation;
mod endpoint_pools;
mod environment_made;
mod failures;
mod fidelity;
mod grading;
mod hand_fed;
mod http2;
mod judge;
mod judge_lessons;
mod layering;
mod limits;
mod local_messages;
mod log_watch;
mod metric_names;
mod metrics;
mod mixture;
mod operations;
mod own_keys;
mod probe;
mod progress;
mod provider;
mod provider_accounts;
mod provider_documents;
mod provider_failures;
mod provider_limits;
mod provider_quirks;
mod provider_requests;
mod provider_streams;
mod queueing;
mod refusals;
mod request_lines;
mod retries;
mod revisions;
mod robustness;
mod search;
mod secrecy;
mod strategies;
mod slow_readers;
mod stop_rules;
mod stopping;
mod stream_pace;
mod streams;
mod structured_output;
mod stubbed_bedrock;
mod swap;
mod text_completions;
mod timeouts;
mod together;
mod told_usage;
#[cfg(target_os = "linux")]
mod tls;
mod upstream_failures;
mod upstream_profiles;
mod votes;
mod wait;
