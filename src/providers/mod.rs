//! Remote models: calls over HTTP, in OpenAI's words or in those of AWS Bedrock, one candidate each, with limits,
//! retries and a typed failure for everything that an upstream can do wrong.
//!
//! A provider knows how to ask its upstream once and how often to try; how many candidates there are, and
//! which of them still matter, is the caller's business: dropping a call closes its connection.
//!
//! The rules of the calls are pure parts, one a file: who gets a place (`limiter`), whether to try again (`retry`,
//! `retry_budget`), whom to leave alone (`breaker`) and which member to ask (`pool`). The `gate` of an upstream keeps
//! their state, `shared` finds it by what it stands before, and `attempts` goes by them, whatever protocol is spoken.

pub mod bedrock;
pub mod openai;
mod provider;
mod spec;
mod attempts;
mod members;
mod findings;
mod streamed;
mod fit;
mod upstream;
mod shared;
mod gate;
mod habits;
mod limiter;
mod retry;
mod retry_budget;
mod breaker;
mod pool;
mod window;
mod http_client;
mod http_error;
mod lookup;
mod payload;
mod plain;
mod sse;
mod thread_clients;
mod tls;

pub use attempts::Attempt;
pub use breaker::BreakerState;
pub use findings::Findings;
pub use limiter::Caller;
pub use provider::{PreparedRequest, Provider, TextCall};
pub use shared::{ModelState, Shared, UpstreamState};
pub use spec::{Brought, Dialect, ProviderError, ProviderSpec};
