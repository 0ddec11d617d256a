//! The stub of Bedrock as a program, for tests in other languages.
//!
//! `bedrock-stub --port-file stub.port` writes the port once it listens; `server.rs` says what it serves and how it is
//! told.

#[allow(dead_code, reason = "the handle serves tests in this language; a program uses the control endpoint")]
#[path = "server.rs"]
mod server;

#[allow(dead_code, reason = "the stub takes from it what any server needs")]
#[path = "../upstream/server.rs"]
mod upstream;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use tokio::net::TcpListener;

/// A server that answers as AWS Bedrock's runtime would, as it is told.
#[derive(Debug, Parser)]
struct Args {
    /// The port on the loopback interface; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where to write the port once it listens.
    #[arg(long)]
    port_file: Option<PathBuf>,
    /// botocore's data/bedrock-runtime/2023-09-30/service-2.json.gz; without it the one in .venv.
    #[arg(long)]
    service_model: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let model = match &args.service_model {
        Some(path) => server::ServiceModel::load(path)
            .map(Arc::new)
            .map_err(|error| anyhow::anyhow!("could not read {}: {error}", path.display()))?,
        None => server::ServiceModel::installed(),
    };
    let listener = TcpListener::bind(("127.0.0.1", args.port))
        .await
        .with_context(|| format!("could not listen on port {}", args.port))?;
    let stub = server::BedrockStub::start_on(listener, model);
    if let Some(path) = &args.port_file {
        // Renamed into place, so that whoever waits for the file never reads half a number.
        let partial = path.with_extension("partial");
        std::fs::write(&partial, stub.address().port().to_string())?;
        std::fs::rename(&partial, path).with_context(|| format!("could not write {}", path.display()))?;
    }
    println!("listening on {}", stub.url());
    stub.run().await;
    Ok(())
}
