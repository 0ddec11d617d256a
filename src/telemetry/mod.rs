//! Logging: readable lines on a terminal, JSON for machines.

mod lines;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use self::lines::{Carrier, Lines};
use crate::config::server::LogFormat;

/// Keeps the log going. Dropped, all that was logged before has been written, unless standard error takes nothing for a second.
#[must_use = "what is logged after it is gone is written nowhere"]
pub struct Log {
    _carrier: Carrier,
}

/// Sends `tracing` to standard error at `level`, a filter such as `info` or `itsd=debug,warn`.
///
/// # Errors
///
/// When the process already has a subscriber, the filter cannot be read, or the system gives no thread.
pub fn init(format: LogFormat, level: &str) -> anyhow::Result<Log> {
    // What the web framework says of its workers is of no use to an operator.
    let filter = EnvFilter::try_new(format!("actix_server=warn,{level}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let tell = |lines| tracing::warn!(lines, "log lines were lost, as standard error did not take them");
    let (outlet, carrier) = Lines::to(std::io::stderr(), lines::WAIT, tell)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(outlet)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let initialised: Result<(), TryInitError> = match format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    initialised?;
    Ok(Log { _carrier: carrier })
}
