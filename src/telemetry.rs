//! Logging: readable lines on a terminal, JSON for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::server::LogFormat;

/// Sends `tracing` to standard error at `level`, a filter such as `info` or `itsd=debug,warn`.
///
/// # Errors
///
/// When the process already has a subscriber or the filter cannot be read.
pub fn init(format: LogFormat, level: &str) -> anyhow::Result<()> {
    // What the web framework says of its workers is of no use to an operator.
    let filter = EnvFilter::try_new(format!("actix_server=warn,{level}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let initialised: Result<(), TryInitError> = match format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    Ok(initialised?)
}
