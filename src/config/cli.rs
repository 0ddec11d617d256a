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
    /// Judge a response by a reference answer: prints a verdict as a line of JSON; the exit code is 0 where they are equal.
    Grade(GradeArguments),
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
    /// Configuration file: TOML, YAML or JSON [default: configs/itsd.toml, if there is one].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
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
    }

    #[test]
    fn an_answer_to_grade_may_begin_with_a_minus() {
        let line = Cli::try_parse_from(["itsd", "grade", "--reference", "-5", "-5"]).unwrap();
        let Command::Grade(args) = line.command else { panic!("grade is a command") };
        assert_eq!((args.reference.as_str(), args.response.as_deref()), ("-5", Some("-5")));
        assert!(Cli::try_parse_from(["itsd", "grade", "5"]).is_err());
    }
}
