//! Reading the configuration file again while the daemon runs: on SIGHUP, and in development whenever it changes.
//!
//! Only `[active]` takes effect, as a new revision. What the server was built with stays until a restart, and
//! a change of it is named in a warning.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::config::cli::ServeArguments;
use crate::config::{Environment, Settings, settings_file};
use crate::runtime::Runtime;

/// How often the file is looked at in development.
const LOOK: Duration = Duration::from_millis(500);

/// What the daemon was started with, to read the file again as it was read then.
pub struct Reloader {
    pub arguments: ServeArguments,
    pub environment: Environment,
    pub running: Settings,
    /// The file as it was before it was read for that.
    pub as_read: FileVersion,
    pub runtime: Arc<Runtime>,
}

/// What tells that a file is another one than before; nothing where there is no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileVersion(Option<(SystemTime, u64, u64)>);

impl FileVersion {
    /// That of the configuration file that the arguments lead to, as it is now.
    pub fn of(arguments: &ServeArguments) -> Self {
        let metadata = settings_file(arguments).and_then(|file| std::fs::metadata(file).ok());
        Self(metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))))
    }
}

impl Reloader {
    /// Reads the file again whenever the daemon is told to, or, in development, whenever it has changed.
    ///
    /// Cancel safety: dropping it stops the watching; a change under way is made whole.
    pub async fn watch(self) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            tracing::error!("SIGHUP cannot be received; restart the daemon to apply its configuration file");
            return;
        };
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = self.as_read.clone();
        loop {
            tokio::select! {
                Some(()) = hangup.recv() => {}
                _ = look.tick(), if self.arguments.dev => {
                    let now = FileVersion::of(&self.arguments);
                    if now == known {
                        continue;
                    }
                    known = now;
                }
            }
            self.reload().await;
        }
    }

    /// Reads the file once and applies what can be applied. What goes wrong is logged, and all stays as it is.
    pub async fn reload(&self) {
        let Some(file) = settings_file(&self.arguments) else {
            tracing::warn!("there is no configuration file to read again; --config names one");
            return;
        };
        let settings = match Settings::load(&self.arguments, &self.environment) {
            Ok(settings) => settings,
            Err(error) => {
                tracing::error!(%error, "the configuration file is wrong, so nothing of it was applied");
                return;
            }
        };
        let restart = self.needing_a_restart(&settings);
        if !restart.is_empty() {
            tracing::warn!(settings = restart.join(", "), "these have changed and need a restart to take effect");
        }
        let Some(active) = settings.active else {
            tracing::info!(file = %file.display(), "the configuration file was read again; it has no `[active]`");
            return;
        };
        match self.runtime.apply_file(active, settings.active_origins).await {
            Ok(Some(configured)) => {
                for warning in &configured.warnings {
                    tracing::warn!("{warning}");
                }
                tracing::info!(file = %file.display(), revision = configured.revision, "`[active]` was applied");
            }
            Ok(None) => tracing::info!(file = %file.display(), "`[active]` is what was last applied of it"),
            Err(error) => tracing::error!(%error, "the file's `[active]` was not applied"),
        }
    }

    /// The names of the server's settings that differ from what it runs with.
    fn needing_a_restart(&self, settings: &Settings) -> Vec<String> {
        let running = self.running.shown();
        let differ =
            settings.shown().into_iter().filter(|shown| !shown.0.starts_with("active.") && !running.contains(shown));
        differ.map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    async fn started(file: &Path, state: &Path) -> Reloader {
        let arguments = ServeArguments { state_dir: Some(state.to_owned()), ..ServeArguments::of_file(file) };
        let environment = Environment::default();
        let as_read = FileVersion::of(&arguments);
        let running = Settings::load(&arguments, &environment).unwrap();
        let runtime = Arc::new(Runtime::start(&running, environment.clone()).await.unwrap());
        Reloader { arguments, environment, running, as_read, runtime }
    }

    fn text(port: u16, model: &str) -> String {
        format!(
            "[server]\nport = {port}\n[active]\nprovider = \"openai-compatible\"\nendpoint = \"http://127.0.0.1:9\"\n\
             model = \"{model}\"\n"
        )
    }

    #[tokio::test]
    async fn a_changed_active_table_becomes_a_revision_and_a_wrong_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("itsd.toml");
        std::fs::write(&file, text(0, "a")).unwrap();
        let reloader = started(&file, &dir.path().join("state")).await;
        let active = || {
            let described = reloader.runtime.describe().unwrap();
            (described.revision, described.document["model"].as_str().unwrap().to_owned())
        };
        assert_eq!(active(), (1, "a".to_owned()));
        reloader.reload().await;
        assert_eq!(active(), (1, "a".to_owned()), "nothing has changed");

        for wrong in [
            "[active]\nmodel = ",
            "[active]\nmodel = \"m\"\nbuget = 3\n",
            "[active]\nmodel = \"m\"\napi_key = \"env:NO\"\n",
        ] {
            std::fs::write(&file, wrong).unwrap();
            reloader.reload().await;
            assert_eq!(active(), (1, "a".to_owned()), "{wrong}");
        }
        let told = reloader.runtime.not_restored();
        assert!(told[0].contains("`[active]`") && told[0].contains("NO"), "{told:?}");

        std::fs::write(&file, text(0, "b")).unwrap();
        reloader.reload().await;
        assert_eq!(active(), (2, "b".to_owned()));
        assert!(reloader.runtime.not_restored().is_empty());
        std::fs::remove_file(&file).unwrap();
        reloader.reload().await;
        assert_eq!(active(), (2, "b".to_owned()));
    }

    #[tokio::test]
    async fn what_needs_a_restart_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("itsd.toml");
        std::fs::write(&file, text(0, "a")).unwrap();
        let reloader = started(&file, &dir.path().join("state")).await;
        let changed = |content: &str| {
            std::fs::write(&file, content).unwrap();
            reloader.needing_a_restart(&Settings::load(&reloader.arguments, &reloader.environment).unwrap())
        };
        assert!(changed(&text(0, "b")).is_empty());
        assert_eq!(changed(&format!("{}[llama]\nthreads = 3\n", text(9, "b"))), ["server.port", "llama.threads"]);
    }
}
