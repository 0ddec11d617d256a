//! The server's settings as they are shown: every one by its name, as lines of TOML, without a secret.

use serde_json::Value;

use super::document::take_secrets;
use super::origin::{SettingOrigin, SettingOrigins};
use super::server::{LogFormat, Settings};

impl Settings {
    /// Every setting by its name, such as `server.port`, as the daemon would run with it. Null stands for one
    /// that is settled at run time. Secrets are references or fingerprints.
    pub fn shown(&self) -> Vec<(String, Value)> {
        let Self { server, store, models, llama, telemetry, outbound, active, active_origins: _ } = self;
        let path = |path: &std::path::Path| Value::from(path.display().to_string());
        let log_format = match telemetry.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let mut shown: Vec<(String, Value)> = [
            ("server.host", Value::from(server.host.clone())),
            ("server.port", server.port.into()),
            ("server.port_file", path(&server.port_file)),
            ("server.workers", server.workers.into()),
            ("server.body_limit_bytes", server.body_limit_bytes.into()),
            ("server.allowed_hosts", server.allowed_hosts.clone().into()),
            ("server.allow_unauthenticated", server.allow_unauthenticated.into()),
            ("server.shutdown_timeout_s", server.shutdown_timeout_s.into()),
            ("store.state_dir", path(&store.state_dir)),
            ("models.dirs", models.dirs.iter().map(|dir| path(dir)).collect()),
            ("llama.threads", llama.threads.into()),
            ("llama.context_tokens", llama.context_tokens.into()),
            ("llama.kept_tokens", llama.kept_tokens.into()),
            ("llama.kept_mib", llama.kept_mib.into()),
            ("llama.batch_tokens", llama.batch_tokens.into()),
            ("llama.gpu_layers", llama.gpu_layers.into()),
            ("llama.max_sequences", llama.max_sequences.into()),
            ("llama.separate_reasoning", llama.separate_reasoning.into()),
            ("telemetry.log_format", log_format.into()),
            ("telemetry.log_level", telemetry.log_level.clone().into()),
            ("outbound.allow_http", outbound.allow_http.clone().into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if let Some(mut active) = active.clone() {
            take_secrets(&mut active);
            shown.extend(active.into_iter().map(|(field, value)| (format!("active.{field}"), value)));
        }
        shown
    }
}

/// The lines of `itsd config show`: TOML, and with `origins` a comment on each line that tells where the value
/// came from.
pub fn lines(settings: &Settings, origins: Option<&SettingOrigins>) -> String {
    let mut lines = String::new();
    for (name, value) in settings.shown() {
        let line = match &value {
            Value::Null => format!("# {name} is not set"),
            value => format!("{name} = {}", toml(value)),
        };
        lines.push_str(&line);
        if let Some(origins) = origins {
            lines.push_str(&format!("  # {}", origins.get(&name).unwrap_or(&SettingOrigin::Default)));
        }
        lines.push('\n');
    }
    lines
}

/// A JSON value in TOML's words. TOML has no null: where one stands in a list or table it is left out.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().filter(|item| !item.is_null()).map(toml).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            let fields: Vec<_> =
                fields.map(|(name, value)| format!("{} = {}", Value::from(name.as_str()), toml(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        // JSON's strings, numbers and booleans are TOML's.
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Environment;
    use crate::config::cli::ServeArguments;
    use crate::config::raw::RawSettings;

    #[test]
    fn every_setting_of_the_file_is_shown() {
        let (settings, _) = Settings::load_with_origins(&ServeArguments::default(), &Environment::default()).unwrap();
        let mut shown: Vec<_> = settings.shown().into_iter().map(|(name, _)| name).collect();
        shown.sort_unstable();
        let known = serde_json::to_value(RawSettings::default()).unwrap();
        let mut names = Vec::new();
        for (section, keys) in known.as_object().unwrap().iter().filter(|(_, keys)| keys.is_object()) {
            names.extend(keys.as_object().unwrap().keys().map(|key| format!("{section}.{key}")));
        }
        names.sort_unstable();
        assert_eq!(shown, names);
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same_settings_and_holds_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("itsd.toml");
        let text = "[server]\nport = 9\nallowed_hosts = [\"a\\\"b\"]\n[llama]\nthreads = 3\n[active]\nmodel = \"m\"\n\
                    api_key = \"sk-literal-0123456789\"\nbudget = 3\ntemperature = 0.5\n\
                    [active.model_mapping]\n\"GPT-4.1/x\" = \"ü\"\n";
        fs::write(&file, text).unwrap();
        let environment = Environment::from_pairs([("ITSD__ACTIVE__BUDGET", "5"), ("PORT", "8001")]);
        let load = |file: &std::path::Path, environment: &Environment| {
            Settings::load_with_origins(&ServeArguments::of_file(file), environment).unwrap()
        };
        let (settings, origins) = load(&file, &environment);
        let shown = lines(&settings, Some(&origins));
        assert!(!shown.contains("literal"), "{shown}");
        for line in [
            "server.port = 8001  # environment PORT\n".to_owned(),
            "server.host = \"127.0.0.1\"  # default\n".to_owned(),
            format!("llama.threads = 3  # file {}\n", file.display()),
            "active.budget = 5  # environment ITSD__ACTIVE__BUDGET\n".to_owned(),
            "# llama.context_tokens is not set  # default\n".to_owned(),
            "# llama.kept_tokens is not set  # default\n".to_owned(),
        ] {
            assert!(shown.contains(&line), "{line} is missing in\n{shown}");
        }
        // A fingerprint stands for a stored secret, which a file has not.
        let readable = lines(&settings, None).replace(
            shown.lines().find(|line| line.starts_with("active.api_key")).unwrap().split("  #").next().unwrap(),
            "active.api_key = \"sk-literal-0123456789\"",
        );
        let again = dir.path().join("again.toml");
        fs::write(&again, &readable).unwrap();
        let (again, _) = load(&again, &Environment::default());
        assert_eq!((again.server.port, again.server.allowed_hosts), (8001, settings.server.allowed_hosts));
        assert_eq!((again.active, again.llama), (settings.active, settings.llama));
    }
}
