//! `itsd serve` from start to end: settings, store, active configuration, listener, signals, shutdown.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::app::{Application, Stopper};
use crate::config::cli::ServeArguments;
use crate::config::{Environment, Settings};
use crate::port_file::PortFile;
use crate::runtime::Runtime;
use crate::telemetry;

/// Runs the daemon until a signal ends it.
///
/// # Errors
///
/// Bad settings, an unusable state directory, an address that cannot be bound.
pub fn serve(arguments: &ServeArguments, environment: Environment) -> anyhow::Result<()> {
    let settings = Settings::load(arguments, &environment)?;
    telemetry::init(settings.telemetry.log_format, &settings.telemetry.log_level)?;
    let workers = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("itsd-run").build()?;
    let result = actix_web::rt::System::new().block_on(run(settings, environment, workers.handle().clone()));
    // Runs that outlived the drain end here, with their upstream calls.
    workers.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Validates a settings file and its `[active]` configuration, and says what is wrong with it.
///
/// # Errors
///
/// What is wrong.
pub fn check_config(file: &Path, environment: &Environment) -> anyhow::Result<()> {
    Settings::check_file(file, environment)?;
    println!("{} is fine", file.display());
    Ok(())
}

async fn run(settings: Settings, environment: Environment, workers: tokio::runtime::Handle) -> anyhow::Result<()> {
    let runtime = Arc::new(Runtime::start(&settings, environment).await?);
    let application = Application::build(&settings, runtime, workers)?;
    let address = application.address;
    let port_file = PortFile::write(&settings.server.port_file, address.port())
        .with_context(|| format!("cannot write the port file {}", settings.server.port_file.display()))?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening on http://{address}");

    let (end_now, ended) = oneshot::channel();
    let watch = actix_web::rt::spawn(heed_signals(application.stopper(), end_now));
    let watchdog = actix_web::rt::spawn(feed_watchdog());
    tell_supervisor(&[NotifyState::Ready]);
    // A server that drains hears of nothing else, so that it is dropped to end at once.
    let result = tokio::select! {
        result = application.run() => result,
        Ok(()) = ended => Ok(()),
    };
    watch.abort();
    watchdog.abort();
    drop(port_file);
    tracing::info!("stopped");
    Ok(result?)
}

/// The first SIGTERM or SIGINT drains, the second ends at once.
async fn heed_signals(stopper: Stopper, end_now: oneshot::Sender<()>) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be received; stop the daemon with SIGKILL");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: running requests may finish, a second signal ends them");
    tell_supervisor(&[NotifyState::Stopping]);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = stopper.drain() => return,
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
