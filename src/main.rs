//! The command line: parses it, hands over to the library, and turns the result into an exit code.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use itsd::answer::{Verdict, grade};
use itsd::app::BuildError;
use itsd::config::Environment;
use itsd::config::cli::{Cli, Command, ConfigCommand, GradeArguments};
use itsd::config::server::SettingsFileError;

/// Every request makes some hundreds of small allocations: this one saves a tenth of what a plain call costs. Version 2, and
/// without huge pages, since an idle daemon would hold 20 MB more with them or with version 3.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        Command::Grade(arguments) => match print_grade(&arguments) {
            Ok(Verdict::Equal { .. }) => Ok(()),
            Ok(Verdict::Different { .. } | Verdict::Unparsed) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("itsd: {error:#}");
            if is_bad_configuration(&error) { EXIT_BAD_CONFIGURATION.into() } else { ExitCode::FAILURE }
        }
    }
}

fn print_grade(arguments: &GradeArguments) -> anyhow::Result<Verdict> {
    let response = match arguments.response.as_deref() {
        Some("-") | None => {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).context("cannot read the response from standard input")?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Some(response) => response.to_owned(),
    };
    let verdict = grade(&arguments.reference, &response);
    writeln!(io::stdout(), "{}", verdict.to_json()).context("cannot write the verdict to standard output")?;
    Ok(verdict)
}

fn is_bad_configuration(error: &anyhow::Error) -> bool {
    error.is::<SettingsFileError>()
        || matches!(error.downcast_ref(), Some(BuildError::Unauthenticated { .. } | BuildError::UnknownHost { .. }))
}
