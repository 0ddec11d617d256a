//! Where values came from: the server's settings, and each field of the active configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::document::Document;
use super::fields;

/// What gave one of the server's settings its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingOrigin {
    Default,
    File(PathBuf),
    /// A variable of a `.env` file.
    EnvFile {
        file: PathBuf,
        variable: String,
    },
    Environment {
        variable: String,
    },
    /// An option such as `--port`.
    CommandLine(&'static str),
}

/// The origins of the settings that have another one than the built-in default, by their names such as
/// `server.port`.
pub type SettingOrigins = BTreeMap<String, SettingOrigin>;

impl fmt::Display for SettingOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str(DEFAULT),
            Self::File(path) => write!(formatter, "{FILE} {}", path.display()),
            Self::EnvFile { file, variable } => write!(formatter, ".env {} {variable}", file.display()),
            Self::Environment { variable } => formatter.write_str(&environment(variable)),
            Self::CommandLine(option) => write!(formatter, "command line {option}"),
        }
    }
}

/// Nobody named the field.
pub const DEFAULT: &str = "default";
/// `POST` or `PATCH /configure`.
pub const REQUEST: &str = "request";
/// The `[active]` table of the configuration file.
pub const FILE: &str = "file";

/// The fields of a document with where their values came from: [`REQUEST`], [`FILE`] or [`environment`].
pub type FieldOrigins = BTreeMap<String, String>;

/// A value that the environment variable of this name gave.
pub fn environment(variable: &str) -> String {
    format!("environment {variable}")
}

/// Where the fields of the file's `[active]` came from: most from the file, some from variables.
pub fn of_active(settings: &SettingOrigins, active: &Document) -> FieldOrigins {
    let origin = |field: &str| match settings.get(&format!("active.{field}")) {
        Some(SettingOrigin::Environment { variable } | SettingOrigin::EnvFile { variable, .. }) => {
            environment(variable)
        }
        _ => FILE.to_owned(),
    };
    active.keys().map(|field| (field.clone(), origin(field))).collect()
}

/// Every field of a document under one origin.
pub fn all(document: &Document, origin: &str) -> FieldOrigins {
    document.keys().map(|field| (field.clone(), origin.to_owned())).collect()
}

/// The origins after a merge patch, whose fields came by a request. What the document does not hold any more
/// has none.
pub fn patched(mut origins: FieldOrigins, patch: &Document, merged: &Document) -> FieldOrigins {
    origins.extend(all(patch, REQUEST));
    origins.retain(|field, _| merged.contains_key(field));
    origins
}

/// The origin of every field there is: of those that `named` does not have the built-in default. A field that
/// was named by another of its names is told under that.
pub fn of_every_field(named: &FieldOrigins) -> FieldOrigins {
    let mut origins = named.clone();
    for field in fields::FIELDS {
        if !field.aliases.iter().any(|alias| named.contains_key(*alias)) {
            origins.entry(field.name.to_owned()).or_insert_with(|| DEFAULT.to_owned());
        }
    }
    origins
}
