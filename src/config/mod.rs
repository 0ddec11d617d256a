//! Settings and their validation: the server's (file, environment, command line) and the active
//! configuration's (`/configure`). Knows no other module, and is the only one that reads the environment.

pub mod active;
pub mod aws;
mod bedrock_name;
pub mod calls;
pub mod capabilities;
mod choices;
pub mod cli;
pub mod document;
pub mod earlier;
pub mod endpoint;
mod env_file;
pub mod environment;
pub mod extra_args;
pub mod field;
pub mod fields;
mod limits;
pub mod first;
pub mod origin;
pub mod prices;
pub mod provider;
mod raw;
pub mod run;
pub mod schema;
mod search;
pub mod secret;
pub mod server;
mod settings_table;
pub mod shipped;
pub mod shown;
mod word;

pub use active::ActiveSettings;
pub use environment::Environment;
pub use field::{SettingsCode, SettingsError};
pub use raw::{DEFAULT_FILE, settings_file};
pub use run::RunSettings;
pub use server::{LogFormat, Settings, SettingsFileError};
