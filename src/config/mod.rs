//! Settings and their validation: the server's (file, environment, command line) and the active
//! configuration's (`/configure`). Knows no other module, and is the only one that reads the environment.

pub mod active;
mod choices;
pub mod cli;
pub mod document;
pub mod endpoint;
pub mod environment;
pub mod extra_args;
pub mod field;
pub mod fields;
pub mod prices;
pub mod provider;
mod raw;
pub mod run;
pub mod secret;
pub mod server;
pub mod shipped;
mod word;

pub use active::ActiveSettings;
pub use environment::Environment;
pub use field::{SettingsCode, SettingsError};
pub use run::RunSettings;
pub use server::{LogFormat, Settings, SettingsFileError};
