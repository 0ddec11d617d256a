//! Remote models: calls over HTTP, one candidate each, with limits, retries and a typed failure for
//! everything that an upstream can do wrong.
//!
//! A provider knows how to ask its upstream once and how often to try; how many candidates there are, and
//! which of them still matter, is the caller's business: dropping a call closes its connection.

pub mod openai;
mod http_client;
mod retry;
mod sse;
mod thread_clients;
