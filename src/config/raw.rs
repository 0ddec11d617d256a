//! What the sources of the server's settings say: defaults < file < environment < command line.

use std::path::{Path, PathBuf};

use config::{Config, ConfigError, File, FileFormat, Value, ValueKind};
use serde::{Deserialize, Serialize};

use super::cli::ServeArguments;
use super::document::Document;
use super::environment::Environment;
use super::field::did_you_mean;
use super::origin::{SettingOrigin, SettingOrigins};
use super::server::{LogFormat, SettingsFileError};

/// The file that is read when none is named, if it exists.
pub const DEFAULT_FILE: &str = "configs/itsd.toml";

/// What `--dev` logs: everything of the daemon's own, and of its libraries what an operator would see.
const DEVELOPMENT_LOG_LEVEL: &str = "info,itsd=debug";

/// What the sources say, with the built-in defaults for what they do not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawSettings {
    pub server: RawServer,
    pub store: RawStore,
    pub models: RawModels,
    pub llama: RawLlama,
    pub telemetry: RawTelemetry,
    pub outbound: RawOutbound,
    pub active: Option<Document>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawServer {
    pub host: String,
    pub port: u16,
    pub port_file: Option<PathBuf>,
    pub workers: Option<usize>,
    pub body_limit_bytes: usize,
    pub allowed_hosts: Vec<String>,
    pub allow_unauthenticated: bool,
    pub shutdown_timeout_s: u64,
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
pub struct RawStore {
    pub state_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawModels {
    pub dirs: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawLlama {
    pub threads: Option<usize>,
    pub context_tokens: Option<u32>,
    pub kept_tokens: Option<u32>,
    pub kept_mib: u32,
    pub batch_tokens: u32,
    pub gpu_layers: i32,
    pub max_sequences: u32,
    pub separate_reasoning: bool,
}

impl Default for RawLlama {
    fn default() -> Self {
        Self {
            threads: None,
            context_tokens: None,
            kept_tokens: None,
            kept_mib: 1024,
            batch_tokens: 512,
            gpu_layers: -1,
            max_sequences: 32,
            separate_reasoning: false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawTelemetry {
    pub log_format: RawLogFormat,
    pub log_level: String,
}

impl Default for RawTelemetry {
    fn default() -> Self {
        Self { log_format: RawLogFormat::Auto, log_level: "info".to_owned() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawLogFormat {
    /// JSON where the lines go to the journal of systemd, text elsewhere.
    Auto,
    Text,
    Json,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawOutbound {
    pub allow_http: Vec<String>,
}

impl RawSettings {
    /// Reads every source, and tells which of them gave what.
    pub fn read(
        arguments: &ServeArguments,
        environment: &Environment,
    ) -> Result<(Self, SettingOrigins), SettingsFileError> {
        let mut builder = Config::builder();
        let mut origins = SettingOrigins::new();
        let file = settings_file(arguments);
        if let Some(file) = file {
            let layer = file_layer(file)?;
            note_file(&layer, file, &mut origins);
            builder = builder.add_source(layer);
        }
        if let Some((path, variables)) = environment.file_alone() {
            let origin = |variable: String| SettingOrigin::EnvFile { file: path.to_owned(), variable };
            builder = environment_layer(builder, &variables, &origin, &mut origins).map_err(source_error)?;
        }
        let origin = |variable: String| SettingOrigin::Environment { variable };
        builder =
            environment_layer(builder, &environment.process_alone(), &origin, &mut origins).map_err(source_error)?;
        builder = command_line_layer(builder, arguments, &mut origins).map_err(source_error)?;
        let config = builder.build().map_err(source_error)?;
        refuse_unknown_keys(&config, file)?;
        Ok((config.try_deserialize().map_err(source_error)?, origins))
    }
}

/// The configuration file that the arguments lead to: the one they name, or the usual one if it exists.
pub fn settings_file(arguments: &ServeArguments) -> Option<&Path> {
    match &arguments.sources.config {
        Some(file) => Some(file.as_path()),
        None => Some(Path::new(DEFAULT_FILE)).filter(|file| file.is_file()),
    }
}

type Builder = config::ConfigBuilder<config::builder::DefaultState>;

fn note_file(layer: &Config, file: &Path, origins: &mut SettingOrigins) {
    let ValueKind::Table(sections) = &layer.cache.kind else { return };
    for (section, value) in sections {
        let ValueKind::Table(keys) = &value.kind else { continue };
        for key in keys.keys() {
            origins.insert(format!("{section}.{key}"), SettingOrigin::File(file.to_owned()));
        }
    }
}

/// The file, in the format that its extension says.
fn file_layer(file: &Path) -> Result<Config, SettingsFileError> {
    let refused = |why: String| SettingsFileError::Source(format!("{}: {why}", file.display()));
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let format = match extension.to_ascii_lowercase().as_str() {
        "toml" => FileFormat::Toml,
        "yaml" | "yml" => FileFormat::Yaml,
        "json" => FileFormat::Json,
        _ => return Err(refused("its name must end in .toml, .yaml or .json".to_owned())),
    };
    let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string()))?;
    let layer = Config::builder().add_source(File::from_str(&text, format)).build();
    layer.map_err(|error| refused(without_excerpt(&error.to_string())))
}

/// `ITSD__SECTION__KEY`, and below it the short names that people's `.env` files use.
fn environment_layer(
    mut builder: Builder,
    environment: &Environment,
    origin: &dyn Fn(String) -> SettingOrigin,
    origins: &mut SettingOrigins,
) -> Result<Builder, ConfigError> {
    let short = [
        ("PORT", "server.port"),
        ("HOST", "server.host"),
        ("SHUTDOWN_TIMEOUT", "server.shutdown_timeout_s"),
        ("ITSD_ALLOW_UNAUTHENTICATED", "server.allow_unauthenticated"),
        ("LOG_LEVEL", "telemetry.log_level"),
    ];
    let mut layer = Config::builder();
    for (variable, key) in short {
        if let Some(value) = environment.var(variable).map(str::trim) {
            layer = layer.set_override(key, value)?;
            origins.insert(key.to_owned(), origin(variable.to_owned()));
        }
    }
    builder = builder.add_source(layer.build()?);
    let sections = environment.with_prefix("ITSD__").filter(|(_, value)| !value.is_empty());
    let sections: config::Map<String, String> =
        sections.map(|(name, value)| (format!("ITSD__{name}"), value.to_owned())).collect();
    for variable in sections.keys() {
        // What is below a key of a section, as in `[active.extra_args]`, is that key's.
        let key: Vec<_> = variable.split("__").skip(1).take(2).map(str::to_lowercase).collect();
        origins.insert(key.join("."), origin(variable.clone()));
    }
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

fn command_line_layer(
    mut builder: Builder,
    arguments: &ServeArguments,
    origins: &mut SettingOrigins,
) -> Result<Builder, ConfigError> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| Value::from(path.to_string_lossy().into_owned()));
    let log_format = arguments.log_format.map(|format| match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    });
    let options: [(&str, &str, Option<Value>); 7] = [
        ("server.host", "--host", arguments.host.clone().map(Value::from)),
        ("server.port", "--port", arguments.port.map(|port| Value::from(i64::from(port)))),
        ("server.port_file", "--port-file", path(&arguments.port_file)),
        ("store.state_dir", "--state-dir", path(&arguments.state_dir)),
        ("telemetry.log_format", "--log-format", log_format.map(Value::from)),
        ("telemetry.log_level", "--dev", arguments.dev.then(|| Value::from(DEVELOPMENT_LOG_LEVEL))),
        (
            "server.allow_unauthenticated",
            "--allow-unauthenticated",
            arguments.allow_unauthenticated.then(|| Value::from(true)),
        ),
    ];
    for (key, option, value) in options {
        if let Some(value) = value {
            builder = builder.set_override(key, value)?;
            origins.insert(key.to_owned(), SettingOrigin::CommandLine(option));
        }
    }
    Ok(builder)
}

/// Refuses keys that no section has, with the nearest that it has.
fn refuse_unknown_keys(config: &Config, file: Option<&Path>) -> Result<(), SettingsFileError> {
    let known = serde_json::to_value(RawSettings::default()).expect("settings serialise");
    let ValueKind::Table(sections) = &config.cache.kind else { return Ok(()) };
    // Values of the file have no origin, because it was not the parser that opened it.
    let place = |value: &Value| match (value.origin(), file) {
        (Some(origin), _) => format!(" in {origin}"),
        (None, Some(file)) => format!(" in {}", file.display()),
        (None, None) => String::new(),
    };
    for (section, value) in sections {
        let Some(known_section) = known.get(section) else {
            return Err(unknown_key(section, section, place(value), &known));
        };
        match &value.kind {
            ValueKind::Table(keys) if known_section.is_object() => {
                for (key, value) in keys {
                    if known_section.get(key).is_none() {
                        return Err(unknown_key(key, &format!("{section}.{key}"), place(value), known_section));
                    }
                }
            }
            // What stands in its place may be a key, so that it is not left to a parser that quotes it.
            ValueKind::Table(_) | ValueKind::Nil => {}
            _ => return Err(SettingsFileError::Source(format!("`{section}` must be a table{}", place(value)))),
        }
    }
    Ok(())
}

fn unknown_key(key: &str, full_key: &str, place: String, known: &serde_json::Value) -> SettingsFileError {
    let known = known.as_object().into_iter().flat_map(|keys| keys.keys());
    SettingsFileError::UnknownKey {
        key: full_key.to_owned(),
        place,
        hint: did_you_mean(key, known.map(String::as_str)),
    }
}

fn source_error(error: ConfigError) -> SettingsFileError {
    SettingsFileError::Source(without_excerpt(&error.to_string()))
}

/// The words of a parser without the lines of the file that TOML's shows: they may hold a key.
fn without_excerpt(text: &str) -> String {
    text.lines().filter(|line| !line.contains('|')).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(name: &str, content: &str, environment: &[(&str, &str)]) -> Result<RawSettings, SettingsFileError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(name);
        fs::write(&file, content).unwrap();
        let arguments = ServeArguments::of_file(file);
        RawSettings::read(&arguments, &Environment::from_pairs(environment.iter().copied())).map(|(raw, _)| raw)
    }

    #[test]
    fn the_example_that_ships_says_the_defaults_and_every_setting_in_it_exists() {
        let example = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(DEFAULT_FILE)).unwrap();
        assert_eq!(read("itsd.toml", &example, &[]).unwrap(), RawSettings::default());

        let uncommented: String = example
            .lines()
            .map(|line| {
                line.strip_prefix("# ").filter(|rest| rest.contains(" = ") || rest.starts_with('[')).unwrap_or(line)
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let all = read("itsd.toml", &uncommented, &[]).unwrap();
        crate::config::ActiveSettings::parse(&all.active.unwrap()).unwrap();
        let known = serde_json::to_value(RawSettings::default()).unwrap();
        for (section, keys) in known.as_object().unwrap() {
            assert!(example.contains(&format!("[{section}]")), "[{section}] is missing");
            for key in keys.as_object().into_iter().flat_map(|keys| keys.keys()) {
                assert!(example.contains(&format!("{key} = ")), "{section}.{key} is missing");
            }
        }
    }

    #[test]
    fn a_file_may_be_toml_yaml_or_json() {
        for (name, content) in [
            ("a.toml", "[server]\nport = 9\n[models]\ndirs = [\"/m\"]\n"),
            ("a.yaml", "server:\n  port: 9\nmodels:\n  dirs: [/m]\n"),
            ("a.json", r#"{"server": {"port": 9}, "models": {"dirs": ["/m"]}}"#),
        ] {
            let raw = read(name, content, &[]).unwrap();
            assert_eq!((raw.server.port, raw.models.dirs), (9, vec![PathBuf::from("/m")]), "{name}");
        }
    }

    #[test]
    fn each_source_wins_over_the_one_before() {
        let file = "[server]\nport = 1\nhost = \"file\"\nshutdown_timeout_s = 1\n[telemetry]\nlog_level = \"error\"\n";
        let environment = [
            ("PORT", "2"),
            ("HOST", "short"),
            ("ITSD__SERVER__HOST", "long"),
            ("SHUTDOWN_TIMEOUT", "2"),
            ("LOG_LEVEL", "DEBUG"),
        ];
        let raw = read("a.toml", file, &environment).unwrap();
        assert_eq!((raw.server.port, raw.server.host.as_str(), raw.server.shutdown_timeout_s), (2, "long", 2));
        assert_eq!(raw.telemetry.log_level, "DEBUG");

        let arguments = ServeArguments {
            port: Some(3),
            state_dir: Some("/state".into()),
            log_format: Some(LogFormat::Json),
            allow_unauthenticated: true,
            ..ServeArguments::default()
        };
        let (raw, origins) = RawSettings::read(&arguments, &Environment::from_pairs(environment)).unwrap();
        assert_eq!((raw.server.port, raw.server.host.as_str()), (3, "long"));
        assert_eq!(raw.store.state_dir.as_deref(), Some(Path::new("/state")));
        assert_eq!(raw.telemetry.log_format, RawLogFormat::Json);
        assert!(raw.server.allow_unauthenticated);
        let told = |key: &str| origins[key].to_string();
        assert_eq!(
            (told("server.port"), told("server.host")),
            ("command line --port".to_owned(), "environment ITSD__SERVER__HOST".to_owned())
        );
    }

    #[test]
    fn a_dotenv_file_stands_between_the_file_and_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let (file, env_file) = (dir.path().join("a.toml"), dir.path().join(".env"));
        fs::write(&file, "[server]\nport = 1\nhost = \"file\"\nshutdown_timeout_s = 1\n[active]\nmodel = \"m\"\n")
            .unwrap();
        let text = "ITSD__SERVER__PORT=2\nHOST=dotenv\nITSD__ACTIVE__MODEL=n\nLOG_LEVEL=error\n";
        fs::write(&env_file, text).unwrap();
        // The real environment wins whatever name it uses.
        let environment = Environment::from_pairs([("PORT", "3"), ("LOG_LEVEL", "debug")]);
        let environment = environment.with_env_file(Some(&env_file)).unwrap();
        let (raw, origins) = RawSettings::read(&ServeArguments::of_file(&file), &environment).unwrap();
        assert_eq!((raw.server.port, raw.server.host.as_str(), raw.server.shutdown_timeout_s), (3, "dotenv", 1));
        assert_eq!((raw.telemetry.log_level.as_str(), &raw.active.unwrap()["model"]), ("debug", &"n".into()));
        let told = |key: &str| origins[key].to_string();
        assert_eq!(told("server.port"), "environment PORT");
        assert_eq!(told("server.host"), format!(".env {} HOST", env_file.display()));
        assert_eq!(told("server.shutdown_timeout_s"), format!("file {}", file.display()));
        assert_eq!(told("active.model"), format!(".env {} ITSD__ACTIVE__MODEL", env_file.display()));
    }

    #[test]
    fn the_environment_gives_lists_numbers_and_switches() {
        let environment = [
            ("ITSD__OUTBOUND__ALLOW_HTTP", "gpu-1,gpu-2:8000"),
            ("ITSD__MODELS__DIRS", "/a"),
            ("ITSD__LLAMA__GPU_LAYERS", "0"),
            ("ITSD_ALLOW_UNAUTHENTICATED", "1"),
            ("ITSD__STORE__STATE_DIR", "12"),
            ("PORT", ""),
        ];
        let (raw, _) = RawSettings::read(&ServeArguments::default(), &Environment::from_pairs(environment)).unwrap();
        assert_eq!(raw.outbound.allow_http, ["gpu-1", "gpu-2:8000"]);
        assert_eq!(raw.models.dirs, [PathBuf::from("/a")]);
        assert_eq!(raw.llama.gpu_layers, 0);
        assert!(raw.server.allow_unauthenticated);
        assert_eq!(raw.store.state_dir, Some(PathBuf::from("12")));
        assert_eq!(raw.server.port, 8108);
    }

    #[test]
    fn a_setting_that_does_not_exist_is_told_with_its_place_and_the_nearest_one() {
        let error = read("a.toml", "[server]\nprot = 1\n", &[]).unwrap_err().to_string();
        assert!(error.contains("`server.prot`") && error.contains("a.toml") && error.contains("`port`"), "{error}");
        let error = read("a.toml", "[sever]\nport = 1\n", &[]).unwrap_err().to_string();
        assert!(error.contains("`sever`") && error.contains("`server`"), "{error}");
        let error = read("a.toml", "", &[("ITSD__LLAMA__TREADS", "4")]).unwrap_err().to_string();
        assert!(error.contains("`llama.treads`") && error.contains("`threads`"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_without_quoting_its_lines() {
        let error = read("a.toml", "[active]\napi_key = \"sk-secret\n", &[]).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("sk-secret"), "{error}");
        let error = read("a.ini", "", &[]).unwrap_err().to_string();
        assert!(error.contains("a.ini") && error.contains(".toml"), "{error}");
        let missing = ServeArguments::of_file("/nonexistent/itsd.toml");
        let error = RawSettings::read(&missing, &Environment::default()).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/itsd.toml"), "{error}");
        let error = read("a.toml", "[server]\nport = \"many\"\n", &[]).unwrap_err().to_string();
        assert!(error.contains("server.port"), "{error}");
    }

    #[test]
    fn names_in_the_active_table_keep_their_letters() {
        let raw =
            read("a.toml", "[active]\nmodel = \"M\"\n[active.model_mapping]\n\"GPT-4.1/x\" = \"Y\"\n", &[]).unwrap();
        assert_eq!(
            serde_json::Value::from(raw.active.unwrap()),
            serde_json::json!({"model": "M", "model_mapping": {"GPT-4.1/x": "Y"}})
        );
    }
}
