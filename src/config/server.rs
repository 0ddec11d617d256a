//! The server's own settings: defaults < file < environment < command line.
//!
//! [`Settings`] is what the daemon runs with, every path and range settled. What the daemon answers with is
//! not here but in the active configuration.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::active::ActiveSettings;
use super::cli::ServeArguments;
use super::document::Document;
use super::endpoint::OutboundPolicy;
use super::environment::Environment;
use super::field::SettingsError;
use super::first;
use super::origin::{self, FieldOrigins, SettingOrigins};
use super::raw::{RawLogFormat, RawSettings};
use super::settings_table;
use super::shipped;

/// What the daemon runs with.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub server: ServerSettings,
    pub store: StoreSettings,
    pub models: ModelsSettings,
    pub llama: LlamaSettings,
    pub telemetry: TelemetrySettings,
    pub outbound: OutboundPolicy,
    /// The `[active]` table of the file: the first active configuration.
    pub active: Option<Document>,
    /// Where the fields of `active` came from.
    pub active_origins: FieldOrigins,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServerSettings {
    /// A name or an address.
    pub host: String,
    /// 0 picks a free port.
    pub port: u16,
    /// Where the actual port is written.
    pub port_file: PathBuf,
    /// Whether nobody named `port_file`, so that the daemon can do without it.
    pub port_file_is_default: bool,
    /// Threads that serve connections, 1 to 1024.
    pub workers: usize,
    /// The largest request body after decompression, in bytes.
    pub body_limit_bytes: usize,
    /// `Host` headers taken besides loopback names, lower case.
    pub allowed_hosts: Vec<String>,
    pub allow_unauthenticated: bool,
    /// How long running requests may take to finish at a shutdown, in seconds.
    pub shutdown_timeout_s: u64,
    /// The longest silence on a stream, within the patience of the proxies before it.
    pub stream_keep_alive: Duration,
    /// How long the body of a request may stand still before it is given up.
    pub body_idle_timeout: Duration,
    /// How long a client may read nothing of a stream that has more for it before the run is given up.
    pub unread_timeout: Duration,
}

/// Proxies take a connection for dead after some ten seconds at the least.
const STREAM_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// More than any network needs to lose a packet and send it again.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// As long as an upstream may be silent: a client that reads nothing keeps a call open, and others from being made.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, PartialEq)]
pub struct StoreSettings {
    pub state_dir: PathBuf,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ModelsSettings {
    /// Where local models are looked for, the first that has the name wins; those of the shipped model last.
    pub dirs: Vec<PathBuf>,
}

/// How local models are loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaSettings {
    /// Compute threads; `None` for as many as the machine runs at the same time.
    pub threads: Option<usize>,
    /// Tokens that all candidates together may hold in the cache; `None` for what suits the model.
    pub context_tokens: Option<u32>,
    /// Tokens of prompts and answers that stay in the cache when nobody needs them; `None` for what suits the model.
    pub kept_tokens: Option<u32>,
    /// MiB of memory for prompts and answers that nobody needs and that have made way in the cache, for each model.
    pub kept_mib: u32,
    /// Tokens evaluated at a time.
    pub batch_tokens: u32,
    /// Layers on the GPU; -1 for all.
    pub gpu_layers: i32,
    /// Candidates generated at a time.
    pub max_sequences: u32,
    /// Whether what a model thinks before it answers is given as `reasoning_content` instead of in the text.
    pub separate_reasoning: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TelemetrySettings {
    pub log_format: LogFormat,
    /// A level (`info`) or a filter of `tracing` (`itsd=debug,warn`).
    pub log_level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// Why the settings could not be settled.
#[derive(Debug, thiserror::Error)]
pub enum SettingsFileError {
    #[error("the configuration cannot be read: {0}")]
    Source(String),
    #[error("unknown setting `{key}`{place}{hint}")]
    UnknownKey { key: String, place: String, hint: String },
    #[error("setting `{key}` {message}")]
    Invalid { key: &'static str, message: String },
    #[error("the table `[active]` is wrong: {0}")]
    Active(SettingsError),
}

impl Settings {
    /// The settings from every source.
    ///
    /// # Errors
    ///
    /// When a source cannot be read, names a setting that does not exist or gives a value that cannot be, and
    /// when `[active]` is no configuration.
    pub fn load(arguments: &ServeArguments, environment: &Environment) -> Result<Self, SettingsFileError> {
        Self::load_with_origins(arguments, environment).map(|(settings, _)| settings)
    }

    /// The settings from every source, and where each came from that is not as built in.
    ///
    /// # Errors
    ///
    /// As for [`Settings::load`].
    pub fn load_with_origins(
        arguments: &ServeArguments,
        environment: &Environment,
    ) -> Result<(Self, SettingOrigins), SettingsFileError> {
        let (raw, origins) = RawSettings::read(arguments, environment)?;
        let mut settings = raw.resolve(environment)?;
        if let Some(active) = &settings.active {
            settings.active_origins = origin::of_active(&origins, active);
        }
        Ok((settings, origins))
    }

    /// Reads a settings file as the daemon would, with nothing changed.
    ///
    /// # Errors
    ///
    /// As for [`Settings::load`].
    pub fn check_file(file: &Path, environment: &Environment) -> Result<(), SettingsFileError> {
        Self::load(&ServeArguments::of_file(file), environment).map(|_| ())
    }
}

impl RawSettings {
    fn resolve(self, environment: &Environment) -> Result<Settings, SettingsFileError> {
        let state_dir = self.store.state_dir.unwrap_or_else(|| default_state_dir(environment));
        let port_file_is_default = self.server.port_file.is_none();
        let port_file = self.server.port_file.unwrap_or_else(|| match environment.path("STATE_DIRECTORY") {
            Some(_) => state_dir.join("port"),
            None => PathBuf::from(".port"),
        });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // The file that the operator names wins over others of its name.
        let mut dirs: Vec<_> = first::model_dir(environment).into_iter().collect();
        dirs.extend(self.models.dirs);
        dirs.extend(shipped::model_dirs());

        within("server.workers", self.server.workers.unwrap_or(1) as i64)?;
        within("server.body_limit_bytes", self.server.body_limit_bytes as i64)?;
        within("server.shutdown_timeout_s", self.server.shutdown_timeout_s as i64)?;
        within("llama.threads", self.llama.threads.unwrap_or(1) as i64)?;
        within("llama.context_tokens", i64::from(self.llama.context_tokens.unwrap_or(16)))?;
        within("llama.kept_tokens", i64::from(self.llama.kept_tokens.unwrap_or(0)))?;
        within("llama.kept_mib", i64::from(self.llama.kept_mib))?;
        within("llama.max_sequences", i64::from(self.llama.max_sequences))?;
        within("llama.batch_tokens", i64::from(self.llama.batch_tokens))?;
        within("llama.gpu_layers", i64::from(self.llama.gpu_layers))?;
        if self.llama.batch_tokens < self.llama.max_sequences {
            return Err(SettingsFileError::Invalid {
                key: "llama.batch_tokens",
                message: format!("must be at least `llama.max_sequences`, which is {}", self.llama.max_sequences),
            });
        }
        if self.server.host.trim().is_empty() {
            return Err(SettingsFileError::Invalid {
                key: "server.host",
                message: "must be a name or an address".to_owned(),
            });
        }
        let log_level = self.telemetry.log_level.trim().to_lowercase();
        check_filter(&log_level)?;
        if let Some(active) = &self.active {
            ActiveSettings::parse(active).map_err(SettingsFileError::Active)?;
        }
        Ok(Settings {
            server: ServerSettings {
                host: self.server.host,
                port: self.server.port,
                port_file,
                port_file_is_default,
                workers: self.server.workers.unwrap_or(cores),
                body_limit_bytes: self.server.body_limit_bytes,
                allowed_hosts: lower_case(self.server.allowed_hosts),
                allow_unauthenticated: self.server.allow_unauthenticated,
                shutdown_timeout_s: self.server.shutdown_timeout_s,
                stream_keep_alive: STREAM_KEEP_ALIVE,
                body_idle_timeout: BODY_IDLE_TIMEOUT,
                unread_timeout: UNREAD_TIMEOUT,
            },
            store: StoreSettings { state_dir },
            models: ModelsSettings { dirs },
            llama: LlamaSettings {
                threads: self.llama.threads,
                context_tokens: self.llama.context_tokens,
                kept_tokens: self.llama.kept_tokens,
                kept_mib: self.llama.kept_mib,
                batch_tokens: self.llama.batch_tokens,
                gpu_layers: self.llama.gpu_layers,
                max_sequences: self.llama.max_sequences,
                separate_reasoning: self.llama.separate_reasoning,
            },
            telemetry: TelemetrySettings {
                log_format: match self.telemetry.log_format {
                    RawLogFormat::Text => LogFormat::Text,
                    RawLogFormat::Json => LogFormat::Json,
                    RawLogFormat::Auto if logs_reach_the_journal(environment) => LogFormat::Json,
                    RawLogFormat::Auto => LogFormat::Text,
                },
                log_level,
            },
            outbound: OutboundPolicy { allow_http: lower_case(self.outbound.allow_http) },
            active: self.active,
            active_origins: FieldOrigins::new(),
        })
    }
}

fn within(key: &'static str, value: i64) -> Result<(), SettingsFileError> {
    let range = settings_table::range(key);
    if range.contains(&value) {
        return Ok(());
    }
    let message = format!("must be from {} to {}, not {value}", range.start(), range.end());
    Err(SettingsFileError::Invalid { key, message })
}

/// Refuses what is no filter of `tracing`, and a single word that is no level: `tracing` would take that for a
/// module's name and be silent.
fn check_filter(filter: &str) -> Result<(), SettingsFileError> {
    let refused = |why: String| SettingsFileError::Invalid {
        key: "telemetry.log_level",
        message: format!(
            "must be a level (error, warn, info, debug, trace, off) or a filter such as itsd=debug,warn{why}"
        ),
    };
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if let Some(word) = filter.split(',').find(|word| !word.contains(['=', '[', ']']) && !is_level(word)) {
        return Err(refused(format!(", not {word:?}")));
    }
    EnvFilter::try_new(filter).map(|_| ()).map_err(|error| refused(format!(": {error}")))
}

/// Whether standard error is the journal's socket. systemd tells its device and inode, because the variable
/// is also inherited by what writes elsewhere, such as a shell of a desktop session.
fn logs_reach_the_journal(environment: &Environment) -> bool {
    environment.var("JOURNAL_STREAM").is_some_and(|journal| standard_error().as_deref() == Some(journal))
}

fn standard_error() -> Option<String> {
    let metadata = std::fs::metadata("/dev/stderr").ok()?;
    Some(format!("{}:{}", metadata.dev(), metadata.ino()))
}

/// `$STATE_DIRECTORY` (systemd), else the XDG state home, else `.itsd` in the working directory.
fn default_state_dir(environment: &Environment) -> PathBuf {
    // systemd lists several directories with colons; the first is the unit's own.
    if let Some(dirs) = environment.var("STATE_DIRECTORY") {
        return PathBuf::from(dirs.split(':').next().unwrap_or(dirs));
    }
    // The XDG specification has relative paths ignored.
    if let Some(state_home) = environment.path("XDG_STATE_HOME").filter(|path| path.is_absolute()) {
        return state_home.join("itsd");
    }
    match environment.path("HOME").filter(|home| home.is_absolute()) {
        Some(home) => home.join(".local/state/itsd"),
        None => PathBuf::from(".itsd"),
    }
}

fn lower_case(names: Vec<String>) -> Vec<String> {
    names.into_iter().map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(arguments: ServeArguments, environment: &[(&str, &str)]) -> Result<Settings, SettingsFileError> {
        Settings::load(&arguments, &Environment::from_pairs(environment.iter().copied()))
    }

    fn with_file(content: &str) -> Result<Settings, SettingsFileError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("itsd.toml");
        std::fs::write(&file, content).unwrap();
        load(ServeArguments::of_file(file), &[])
    }

    #[test]
    fn without_file_and_environment_the_daemon_listens_on_loopback() {
        let settings = load(ServeArguments::default(), &[]).unwrap();
        assert_eq!((settings.server.host.as_str(), settings.server.port), ("127.0.0.1", 8108));
        assert_eq!(settings.server.body_limit_bytes, 33_554_432);
        assert!(!settings.server.allow_unauthenticated);
        assert_eq!(settings.server.port_file, PathBuf::from(".port"));
        assert_eq!(settings.store.state_dir, PathBuf::from(".itsd"));
        assert_eq!(settings.telemetry.log_format, LogFormat::Text);
        assert!(settings.server.workers >= 1);
        assert_eq!(settings.active, None);
    }

    #[test]
    fn the_state_directory_is_systemds_then_xdgs_then_the_homes() {
        let state_dir = |environment: &[(&str, &str)]| {
            let settings = load(ServeArguments::default(), environment).unwrap();
            (settings.store.state_dir, settings.server.port_file)
        };
        let home = ("HOME", "/home/u");
        let xdg = ("XDG_STATE_HOME", "/home/u/.state");
        assert_eq!(state_dir(&[home]).0, PathBuf::from("/home/u/.local/state/itsd"));
        assert_eq!(state_dir(&[home, xdg]).0, PathBuf::from("/home/u/.state/itsd"));
        assert_eq!(state_dir(&[home, ("XDG_STATE_HOME", "relative")]).0, PathBuf::from("/home/u/.local/state/itsd"));
        let (dir, port_file) = state_dir(&[home, xdg, ("STATE_DIRECTORY", "/var/lib/itsd:/var/lib/other")]);
        assert_eq!((dir, port_file), (PathBuf::from("/var/lib/itsd"), PathBuf::from("/var/lib/itsd/port")));
    }

    #[test]
    fn logs_are_json_where_they_go_to_the_journal_unless_told_otherwise() {
        let journal = standard_error().unwrap();
        let format = |journal: &str, log_format| {
            let arguments = ServeArguments { log_format, ..ServeArguments::default() };
            load(arguments, &[("JOURNAL_STREAM", journal)]).unwrap().telemetry.log_format
        };
        assert_eq!(format(&journal, None), LogFormat::Json);
        assert_eq!(format("0:0", None), LogFormat::Text);
        assert_eq!(format(&journal, Some(LogFormat::Text)), LogFormat::Text);
    }

    #[test]
    fn the_log_level_may_be_a_level_or_a_filter() {
        for level in
            ["info", "DEBUG", "off", " warn ", "itsd=debug,warn", "warn,itsd::http=trace", "itsd[run{id=1}]=debug"]
        {
            let settings = with_file(&format!("[telemetry]\nlog_level = \"{level}\""));
            assert!(settings.is_ok(), "{level}: {:?}", settings.err());
        }
    }

    #[test]
    fn values_out_of_range_and_a_wrong_active_table_are_told_by_name() {
        for (content, expected) in [
            ("[server]\nworkers = 0", "server.workers"),
            ("[server]\nbody_limit_bytes = 1", "server.body_limit_bytes"),
            ("[server]\nport = 70000", "server.port"),
            ("[server]\nhost = \"\"", "server.host"),
            ("[llama]\nmax_sequences = 0", "llama.max_sequences"),
            ("[llama]\nmax_sequences = 193", "llama.max_sequences"),
            ("[llama]\nmax_sequences = 64\nbatch_tokens = 63", "llama.batch_tokens"),
            ("[llama]\ngpu_layers = -2", "llama.gpu_layers"),
            ("[telemetry]\nlog_level = \"verbose\"", "telemetry.log_level"),
            ("[telemetry]\nlog_level = \"\"", "telemetry.log_level"),
            ("[telemetry]\nlog_level = \"itsd=loud\"", "telemetry.log_level"),
            ("[telemetry]\nlog_level = \"warn,itsd\"", "telemetry.log_level"),
            ("[active]\nprovider = \"openai\"", "`model` is missing"),
            ("[active]\nmodel = \"m\"\nbuget = 3", "did you mean `budget`"),
        ] {
            let error = with_file(content).unwrap_err().to_string();
            assert!(error.contains(expected), "{content}: {error}");
        }
    }
}
