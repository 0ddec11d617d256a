//! The server's own settings: defaults < file < environment < command line.
//!
//! [`RawSettings`] is what the sources say; [`Settings`] is what the daemon runs with, every path and range
//! settled. What the daemon answers with is not here but in the active configuration.

use std::path::{Path, PathBuf};

use config::{Config, ConfigError, File, Value, ValueKind};
use serde::{Deserialize, Serialize};

use super::active::ActiveSettings;
use super::cli::ServeArguments;
use super::document::Document;
use super::endpoint::OutboundPolicy;
use super::environment::Environment;
use super::field::{SettingsError, did_you_mean};
use super::shipped;

/// The file that is read when none is named, if it exists.
pub const DEFAULT_FILE: &str = "configs/itsd.toml";

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
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServerSettings {
    /// A name or an address.
    pub host: String,
    /// 0 picks a free port.
    pub port: u16,
    /// Where the actual port is written.
    pub port_file: PathBuf,
    /// Threads that serve connections, 1 to 1024.
    pub workers: usize,
    /// The largest request body after decompression, in bytes.
    pub body_limit_bytes: usize,
    /// `Host` headers taken besides loopback names, lower case.
    pub allowed_hosts: Vec<String>,
    pub allow_unauthenticated: bool,
    /// How long running requests may take to finish at a shutdown, in seconds.
    pub shutdown_timeout_s: u64,
}

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
    /// Tokens evaluated at a time.
    pub batch_tokens: u32,
    /// Layers on the GPU; -1 for all.
    pub gpu_layers: i32,
    /// Candidates generated at a time.
    pub max_sequences: u32,
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
    #[error("unknown setting `{key}`{origin}{hint}")]
    UnknownKey { key: String, origin: String, hint: String },
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
        let mut builder = Config::builder();
        let file = match &arguments.config {
            Some(file) => Some(file.as_path()),
            None => Some(Path::new(DEFAULT_FILE)).filter(|file| file.is_file()),
        };
        if let Some(file) = file {
            builder = builder.add_source(File::from(file).required(true));
        }
        builder = environment_layer(builder, environment).map_err(source_error)?;
        builder = command_line_layer(builder, arguments).map_err(source_error)?;
        let config = builder.build().map_err(source_error)?;
        refuse_unknown_keys(&config)?;
        let raw: RawSettings = config.try_deserialize().map_err(source_error)?;
        raw.resolve(environment)
    }

    /// Reads a settings file as the daemon would, with nothing changed.
    ///
    /// # Errors
    ///
    /// As for [`Settings::load`].
    pub fn check_file(file: &Path, environment: &Environment) -> Result<(), SettingsFileError> {
        let arguments = ServeArguments { config: Some(file.to_owned()), ..ServeArguments::default() };
        Self::load(&arguments, environment).map(|_| ())
    }
}

/// What the sources say, with the built-in defaults for what they do not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawSettings {
    server: RawServer,
    store: RawStore,
    models: RawModels,
    llama: RawLlama,
    telemetry: RawTelemetry,
    outbound: RawOutbound,
    active: Option<Document>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawServer {
    host: String,
    port: u16,
    port_file: Option<PathBuf>,
    workers: Option<usize>,
    body_limit_bytes: usize,
    allowed_hosts: Vec<String>,
    allow_unauthenticated: bool,
    shutdown_timeout_s: u64,
}

impl Default for RawServer {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8108,
            port_file: None,
            workers: None,
            body_limit_bytes: 32 * 1024 * 1024,
            allowed_hosts: Vec::new(),
            allow_unauthenticated: false,
            shutdown_timeout_s: 30,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawStore {
    state_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawModels {
    dirs: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLlama {
    threads: Option<usize>,
    context_tokens: Option<u32>,
    batch_tokens: u32,
    gpu_layers: i32,
    max_sequences: u32,
}

impl Default for RawLlama {
    fn default() -> Self {
        Self { threads: None, context_tokens: None, batch_tokens: 512, gpu_layers: -1, max_sequences: 64 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawTelemetry {
    log_format: RawLogFormat,
    log_level: String,
}

impl Default for RawTelemetry {
    fn default() -> Self {
        Self { log_format: RawLogFormat::Auto, log_level: "info".to_owned() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawLogFormat {
    /// JSON under systemd, text elsewhere.
    Auto,
    Text,
    Json,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawOutbound {
    allow_http: Vec<String>,
}

impl RawSettings {
    fn resolve(self, environment: &Environment) -> Result<Settings, SettingsFileError> {
        let state_dir = self.store.state_dir.unwrap_or_else(|| default_state_dir(environment));
        let port_file = self.server.port_file.unwrap_or_else(|| match environment.path("STATE_DIRECTORY") {
            Some(_) => state_dir.join("port"),
            None => PathBuf::from(".port"),
        });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut dirs = self.models.dirs;
        dirs.extend(shipped::model_dirs());

        within("server.workers", self.server.workers.unwrap_or(1), 1, 1024)?;
        within("server.body_limit_bytes", self.server.body_limit_bytes, 1024, 1024 * 1024 * 1024)?;
        within("server.shutdown_timeout_s", self.server.shutdown_timeout_s as usize, 0, 86_400)?;
        within("llama.threads", self.llama.threads.unwrap_or(1), 1, 1024)?;
        within("llama.context_tokens", self.llama.context_tokens.unwrap_or(16) as usize, 16, 16 * 1024 * 1024)?;
        within("llama.batch_tokens", self.llama.batch_tokens as usize, 16, 65_536)?;
        within("llama.max_sequences", self.llama.max_sequences as usize, 1, 256)?;
        if self.llama.gpu_layers < -1 {
            return Err(SettingsFileError::Invalid {
                key: "llama.gpu_layers",
                message: "must be -1 (all) or more".to_owned(),
            });
        }
        if self.server.host.trim().is_empty() {
            return Err(SettingsFileError::Invalid {
                key: "server.host",
                message: "must be a name or an address".to_owned(),
            });
        }
        if let Some(active) = &self.active {
            ActiveSettings::parse(active).map_err(SettingsFileError::Active)?;
        }
        Ok(Settings {
            server: ServerSettings {
                host: self.server.host,
                port: self.server.port,
                port_file,
                workers: self.server.workers.unwrap_or(cores),
                body_limit_bytes: self.server.body_limit_bytes,
                allowed_hosts: lower_case(self.server.allowed_hosts),
                allow_unauthenticated: self.server.allow_unauthenticated,
                shutdown_timeout_s: self.server.shutdown_timeout_s,
            },
            store: StoreSettings { state_dir },
            models: ModelsSettings { dirs },
            llama: LlamaSettings {
                threads: self.llama.threads,
                context_tokens: self.llama.context_tokens,
                batch_tokens: self.llama.batch_tokens,
                gpu_layers: self.llama.gpu_layers,
                max_sequences: self.llama.max_sequences,
            },
            telemetry: TelemetrySettings {
                log_format: match self.telemetry.log_format {
                    RawLogFormat::Text => LogFormat::Text,
                    RawLogFormat::Json => LogFormat::Json,
                    // systemd sets this for every unit it starts.
                    RawLogFormat::Auto if environment.var("INVOCATION_ID").is_some() => LogFormat::Json,
                    RawLogFormat::Auto => LogFormat::Text,
                },
                log_level: self.telemetry.log_level.to_lowercase(),
            },
            outbound: OutboundPolicy { allow_http: lower_case(self.outbound.allow_http) },
            active: self.active,
        })
    }
}

type Builder = config::ConfigBuilder<config::builder::DefaultState>;

/// `ITSD__SECTION__KEY`, and below it the short names that people's `.env` files use.
fn environment_layer(mut builder: Builder, environment: &Environment) -> Result<Builder, ConfigError> {
    let short = [
        ("PORT", "server.port"),
        ("HOST", "server.host"),
        ("SHUTDOWN_TIMEOUT", "server.shutdown_timeout_s"),
        ("ITSD_ALLOW_UNAUTHENTICATED", "server.allow_unauthenticated"),
        ("LOG_LEVEL", "telemetry.log_level"),
    ];
    let mut layer = Config::builder();
    for (variable, key) in short {
        layer = layer.set_override_option(key, environment.var(variable).map(str::trim))?;
    }
    builder = builder.add_source(layer.build()?);
    let sections =
        environment.with_prefix("ITSD__").map(|(name, value)| (format!("ITSD__{name}"), value.to_owned())).collect();
    let source = config::Environment::with_prefix("ITSD")
        .prefix_separator("__")
        .separator("__")
        .ignore_empty(true)
        .try_parsing(true)
        .list_separator(",")
        .with_list_parse_key("server.allowed_hosts")
        .with_list_parse_key("models.dirs")
        .with_list_parse_key("outbound.allow_http")
        .source(Some(sections));
    Ok(builder.add_source(source))
}

fn command_line_layer(builder: Builder, arguments: &ServeArguments) -> Result<Builder, ConfigError> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
    let log_format = arguments.log_format.map(|format| match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    });
    builder
        .set_override_option("server.host", arguments.host.clone())?
        .set_override_option("server.port", arguments.port.map(i64::from))?
        .set_override_option("server.port_file", path(&arguments.port_file))?
        .set_override_option("store.state_dir", path(&arguments.state_dir))?
        .set_override_option("telemetry.log_format", log_format)?
        .set_override_option("server.allow_unauthenticated", arguments.allow_unauthenticated.then_some(true))
}

/// Refuses keys that no section has, with the nearest that it has.
fn refuse_unknown_keys(config: &Config) -> Result<(), SettingsFileError> {
    let known = serde_json::to_value(RawSettings::default()).expect("settings serialise");
    let ValueKind::Table(sections) = &config.cache.kind else { return Ok(()) };
    for (section, value) in sections {
        let Some(known_section) = known.get(section) else {
            return Err(unknown_key(section, section, value, &known));
        };
        if let (ValueKind::Table(keys), true) = (&value.kind, known_section.is_object()) {
            for (key, value) in keys {
                if known_section.get(key).is_none() {
                    return Err(unknown_key(key, &format!("{section}.{key}"), value, known_section));
                }
            }
        }
    }
    Ok(())
}

fn unknown_key(key: &str, full_key: &str, value: &Value, known: &serde_json::Value) -> SettingsFileError {
    let known = known.as_object().into_iter().flat_map(|keys| keys.keys());
    SettingsFileError::UnknownKey {
        key: full_key.to_owned(),
        origin: value.origin().map(|origin| format!(" in {origin}")).unwrap_or_default(),
        hint: did_you_mean(key, known.map(String::as_str)),
    }
}

/// An error of the parsers without the excerpt of the file that TOML's shows: the line may hold a key.
fn source_error(error: ConfigError) -> SettingsFileError {
    let text = error.to_string();
    SettingsFileError::Source(text.lines().filter(|line| !line.contains('|')).collect::<Vec<_>>().join(", "))
}

fn within(key: &'static str, value: usize, least: usize, most: usize) -> Result<(), SettingsFileError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(SettingsFileError::Invalid { key, message: format!("must be from {least} to {most}, not {value}") })
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
