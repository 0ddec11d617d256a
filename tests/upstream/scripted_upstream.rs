//! The scripted upstream as a program, for tests in other languages and for the benchmark.
//!
//! `scripted-upstream --port-file upstream.port` writes the port once it listens; `server.rs` says what it
//! serves and how it is told.

#[allow(dead_code, reason = "the handle serves tests in this language; a program uses the control endpoint")]
#[path = "server.rs"]
mod server;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use tokio::net::{TcpListener, TcpSocket};

/// An OpenAI-compatible server that answers as it is told.
#[derive(Debug, Parser)]
struct Args {
    /// The port on the loopback interface; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where to write the port once it listens.
    #[arg(long)]
    port_file: Option<PathBuf>,
    /// The server to stand for.
    #[arg(long, default_value = "plain")]
    profile: server::Profile,
    /// Answer every chat request with the same completion, neither scripted nor recorded.
    #[arg(long, conflicts_with = "profile")]
    instant: bool,
    /// How long an instant answer takes, or the first token of a stream.
    #[arg(long, requires = "instant", default_value_t = 0)]
    delay_ms: u64,
    /// How fast an instant stream goes on after its first token; 0 sends it at once.
    #[arg(long, requires = "instant", default_value_t = 0.0)]
    tokens_per_second: f64,
    /// Worker threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// Takes the port. Many clients may come at once: of those that there is no room for until they are accepted, each would
/// try again only after a second, and a benchmark measure that.
fn listen(port: u16) -> io::Result<TcpListener> {
    const MOST_AT_ONCE: u32 = 4096;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    socket.listen(MOST_AT_ONCE)
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads.max(1)).enable_all().build()?;
    runtime.block_on(async {
        let listener = listen(args.port).with_context(|| format!("could not listen on port {}", args.port))?;
        let pace = server::Pace {
            first_token_ms: args.delay_ms,
            tokens_per_second: args.tokens_per_second,
            ..server::Pace::default()
        };
        let instant = args.instant.then(|| server::Instant::new(pace));
        let upstream = server::Upstream::start_on(listener, args.profile, instant);
        if let Some(path) = &args.port_file {
            // Renamed into place, so that whoever waits for the file never reads half a number.
            let partial = path.with_extension("partial");
            std::fs::write(&partial, upstream.address().port().to_string())?;
            std::fs::rename(&partial, path).with_context(|| format!("could not write {}", path.display()))?;
        }
        println!("listening on {}", upstream.base_url());
        upstream.run().await;
        Ok(())
    })
}
