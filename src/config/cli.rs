//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::server::LogFormat;

/// Makes any language model answer better by asking it many times: an OpenAI-compatible service.
#[derive(Debug, Parser)]
#[command(
    name = "itsd",
    version,
    arg_required_else_help = true,
    after_help = "Start with `itsd serve`: without any file it answers at http://127.0.0.1:8108 with the small model that ships."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service until it is told to stop (Ctrl-C, or SIGTERM).
    Serve(ServeArguments),
    /// Read a configuration file, say what is wrong with it, and exit.
    CheckConfig {
        /// The file to read: TOML, YAML or JSON by its extension.
        file: PathBuf,
    },
    /// Show what the service would run with, or what its configuration file may hold.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Judge a response by a reference answer: prints a verdict as a line of JSON; the exit code is 0 where they are equal.
    Grade(GradeArguments),
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting of the server as it would run now; secrets as references or fingerprints.
    Show {
        /// Say where each value came from: default, file, .env, environment.
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        sources: SourceArguments,
    },
    /// Print the JSON Schema of the configuration file, for editors.
    Schema,
}

/// Which files the settings come from.
#[derive(Debug, Clone, Default, Args)]
pub struct SourceArguments {
    /// Configuration file: TOML, YAML or JSON [default: configs/itsd.toml, if there is one].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File of environment variables that are not set otherwise [default: .env, if there is one].
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
}

/// What is to be graded, and by what.
#[derive(Debug, Clone, Args)]
pub struct GradeArguments {
    /// The right answer, alone or in a text that gives it.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub reference: String,
    /// The response to grade; `-`, or nothing, reads it from standard input.
    #[arg(value_name = "RESPONSE", allow_hyphen_values = true)]
    pub response: Option<String>,
}

/// What the command line says about the server. It wins over the environment and the file.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArguments {
    #[command(flatten)]
    pub sources: SourceArguments,
    /// Address to listen on [default: 127.0.0.1].
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Port to listen on; 0 picks a free one [default: 8108].
    #[arg(long)]
    pub port: Option<u16>,
    /// File that gets the actual port once the service listens [default: .port].
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,
    /// Directory for the configurations and their key [default: itsd in the XDG state home].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// How log lines are written [default: text, and json where systemd keeps the log].
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
    /// Listen beyond this machine although nobody has to give a key.
    #[arg(long)]
    pub allow_unauthenticated: bool,
    /// For development: log at debug, and apply the configuration file again whenever it changes.
    #[arg(long)]
    pub dev: bool,
}

impl ServeArguments {
    /// No argument but the configuration file.
    pub fn of_file(file: impl Into<PathBuf>) -> Self {
        let sources = SourceArguments { config: Some(file.into()), env_file: None };
        Self { sources, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_reads_its_flags() {
        Cli::command().debug_assert();
        let line = Cli::try_parse_from(["itsd", "serve", "--port", "0", "--log-format", "json"]).unwrap();
        let Command::Serve(args) = line.command else { panic!("serve is a command") };
        assert_eq!((args.port, args.log_format), (Some(0), Some(LogFormat::Json)));
        assert!(Cli::try_parse_from(["itsd", "serve", "--port", "70000"]).is_err());

        let line = Cli::try_parse_from(["itsd", "config", "show", "--origin", "--config", "a.yaml"]).unwrap();
        let Command::Config(ConfigCommand::Show { origin, sources }) = line.command else { panic!("show is one") };
        assert_eq!((origin, sources.config), (true, Some(PathBuf::from("a.yaml"))));
    }

    #[test]
    fn an_answer_to_grade_may_begin_with_a_minus() {
        let line = Cli::try_parse_from(["itsd", "grade", "--reference", "-5", "-5"]).unwrap();
        let Command::Grade(args) = line.command else { panic!("grade is a command") };
        assert_eq!((args.reference.as_str(), args.response.as_deref()), ("-5", Some("-5")));
        assert!(Cli::try_parse_from(["itsd", "grade", "5"]).is_err());
    }
}
