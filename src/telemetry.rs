//! Logging: readable lines on a terminal, JSON for machines.

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
    let filter = EnvFilter::try_new(level)?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let initialised: Result<(), TryInitError> = match format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    Ok(initialised?)
}
