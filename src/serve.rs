//! `itsd serve` from start to end: settings, store, active configuration, listener, signals, shutdown.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::app::{self, Application, Stopper};
use crate::config::cli::{ServeArguments, SourceArguments};
use crate::config::server::ServerSettings;
use crate::config::{Environment, Settings, earlier, shown};
use crate::port_file::PortFile;
use crate::reload::{FileVersion, Reloader};
use crate::runtime::Runtime;
use crate::telemetry;

/// Runs the daemon until a signal ends it.
///
/// # Errors
///
/// Bad settings, an unusable state directory, an address that cannot be bound.
pub fn serve(arguments: ServeArguments, environment: Environment) -> anyhow::Result<()> {
    let environment = environment.with_env_file(arguments.sources.env_file.as_deref())?;
    let as_read = FileVersion::of(&arguments);
    let settings = Settings::load(&arguments, &environment)?;
    telemetry::init(settings.telemetry.log_format, &settings.telemetry.log_level)?;
    if let Some(warning) = earlier::warning(&environment) {
        tracing::warn!("{warning}");
    }
    let workers = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("itsd-run").build()?;
    let result = actix_web::rt::System::new()
        .block_on(run(Start { arguments, as_read, settings, environment }, workers.handle().clone()));
    // Runs that outlived the drain end here, with their upstream calls.
    workers.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Validates a settings file and its `[active]` configuration, and says what is wrong with it.
///
/// # Errors
///
/// What is wrong.
pub fn check_config(file: &Path, environment: Environment) -> anyhow::Result<()> {
    Settings::check_file(file, &environment.with_env_file(None)?)?;
    println!("{} is fine", file.display());
    Ok(())
}

/// Prints what the daemon would run with, and with `origin` where each value comes from.
///
/// # Errors
///
/// Bad settings.
pub fn show_config(sources: SourceArguments, origin: bool, environment: Environment) -> anyhow::Result<()> {
    let environment = environment.with_env_file(sources.env_file.as_deref())?;
    let arguments = ServeArguments { sources, ..ServeArguments::default() };
    let (settings, origins) = Settings::load_with_origins(&arguments, &environment)?;
    print!("{}", shown::lines(&settings, origin.then_some(&origins)));
    Ok(())
}

/// What the daemon is started with.
struct Start {
    arguments: ServeArguments,
    /// The configuration file as it was before it was read.
    as_read: FileVersion,
    settings: Settings,
    environment: Environment,
}

async fn run(start: Start, workers: tokio::runtime::Handle) -> anyhow::Result<()> {
    let Start { arguments, as_read, settings, environment } = start;
    // Before the state is touched and a model loaded: whoever starts a second one shall not wait to hear of it.
    let listener = app::bind(&settings)?;
    let runtime = Arc::new(Runtime::start(&settings, environment.clone()).await?);
    let application = Application::build(&settings, listener, Arc::clone(&runtime), workers)?;
    let address = application.address;
    let port_file = write_port_file(&settings.server, address.port())?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening on http://{address}");

    let (end_now, ended) = oneshot::channel();
    // Before anybody is told that the daemon is ready: a signal that nobody waits for would kill it.
    let signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let watch = actix_web::rt::spawn(heed_signals(signals, application.stopper(), end_now));
    let watchdog = actix_web::rt::spawn(feed_watchdog());
    let reload = actix_web::rt::spawn(Reloader { arguments, environment, running: settings, as_read, runtime }.watch());
    tell_supervisor(&[NotifyState::Ready]);
    // A server that drains hears of nothing else, so that it is dropped to end at once.
    let result = tokio::select! {
        result = application.run() => result,
        Ok(()) = ended => Ok(()),
    };
    watch.abort();
    watchdog.abort();
    reload.abort();
    drop(port_file);
    tracing::info!("stopped");
    Ok(result?)
}

/// Writes the port file. Only one that the operator named is worth failing for: the daemon may well run in a
/// directory where it cannot write.
fn write_port_file(server: &ServerSettings, port: u16) -> anyhow::Result<Option<PortFile>> {
    let path = server.port_file.display();
    match PortFile::write(&server.port_file, port) {
        Ok(file) => Ok(Some(file)),
        Err(error) if server.port_file_is_default => {
            tracing::warn!(%error, "the port file {path} cannot be written; --port-file names another");
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot write the port file {path}")),
    }
}

/// The first SIGTERM or SIGINT drains, the second ends what still runs.
async fn heed_signals(signals: (Signal, Signal), stopper: Stopper, end_now: oneshot::Sender<()>) {
    let (mut terminate, mut interrupt) = signals;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: running requests may finish, a second signal ends them");
    tell_supervisor(&[NotifyState::Stopping]);
    let mut drain = pin!(stopper.drain());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = &mut drain => return,
    }
    tokio::select! {
        () = stopper.end() => {}
        () = &mut drain => return,
    }
    // Nobody listens when the server has ended in this very moment.
    let _ = end_now.send(());
}

/// Tells systemd that the daemon is alive, twice in each watchdog period, where it asks for that.
async fn feed_watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let mut beat = tokio::time::interval(period / 2);
    loop {
        beat.tick().await;
        tell_supervisor(&[NotifyState::Watchdog]);
    }
}

fn tell_supervisor(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be notified");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_port_file_that_was_named_must_be_written() {
        let mut server = Settings::load(&ServeArguments::default(), &Environment::default()).unwrap().server;
        assert!(server.port_file_is_default);
        server.port_file = "/nonexistent/.port".into();
        assert!(write_port_file(&server, 8108).unwrap().is_none());

        let named = ServeArguments { port_file: Some("/nonexistent/port".into()), ..ServeArguments::default() };
        let server = Settings::load(&named, &Environment::default()).unwrap().server;
        let error = write_port_file(&server, 8108).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/port"), "{error:#}");
    }
}
