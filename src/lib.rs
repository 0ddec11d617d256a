//! itsd, the inference-time scaling daemon: an OpenAI-compatible service that makes a language model answer
//! better by spending more compute on each question.
//!
//! The modules stand in the order in which a request meets them.
//!
//! A chat request enters at [`http`], which takes one snapshot of the active configuration from [`runtime`]
//! and hands the question to [`algorithms`]. An algorithm asks the [`generator`] for candidates, which come
//! from [`providers`] (HTTP) or `llama` (in this process), has them scored by [`scorers`], reads their answers with
//! [`answer`], and decides.
//! `POST /configure` goes the other way: [`config`] describes it, [`runtime`] prepares and swaps it,
//! [`store`] keeps it. What is counted on the way is in [`metrics`].

pub mod serve;
pub mod reload;
pub mod app;
pub mod port_file;
pub mod telemetry;
pub mod http;
pub mod runtime;
pub mod algorithms;
pub mod scorers;
pub mod generator;
pub mod providers;
#[cfg(feature = "llama")]
pub mod llama;
pub mod answer;
pub mod store;
pub mod metrics;
pub mod config;
pub mod failure;
pub mod completion;
