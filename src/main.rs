//! The command line: parses it, hands over to the library, and turns the result into an exit code.

use std::process::ExitCode;

use clap::Parser;
use itsd::app::BuildError;
use itsd::config::Environment;
use itsd::config::cli::{Cli, Command, ConfigCommand};
use itsd::config::server::SettingsFileError;

/// `EX_CONFIG` of sysexits.h: the configuration is wrong, so restarting will not help.
const EXIT_BAD_CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    let environment = Environment::process();
    let result = match Cli::parse().command {
        Command::Serve(arguments) => itsd::serve::serve(arguments, environment),
        Command::CheckConfig { file } => itsd::serve::check_config(&file, environment),
        Command::Config(ConfigCommand::Show { origin, sources }) => {
            itsd::serve::show_config(sources, origin, environment)
        }
        Command::Config(ConfigCommand::Schema) => {
            println!("{:#}", itsd::config::schema::settings_file());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("itsd: {error:#}");
            if is_bad_configuration(&error) { EXIT_BAD_CONFIGURATION.into() } else { ExitCode::FAILURE }
        }
    }
}

fn is_bad_configuration(error: &anyhow::Error) -> bool {
    error.is::<SettingsFileError>()
        || matches!(error.downcast_ref(), Some(BuildError::Unauthenticated { .. } | BuildError::UnknownHost { .. }))
}
