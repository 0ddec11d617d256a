//! Reads the log of this process at its finest level: one subscriber for every test that looks.

use std::io;
use std::sync::LazyLock;

use tokio::sync::watch;
use tracing_subscriber::fmt::MakeWriter;

use crate::app::PATIENCE;

/// Planted secrets hold this word, and nothing else in these tests does.
pub const CANARY: &str = "canary7f3a9c";

/// What was logged since the first test asked.
#[derive(Debug, Default)]
pub struct Log {
    pub lines: usize,
    /// The lines about requests.
    pub requests: Vec<String>,
    /// The lines about judgements.
    pub judgements: Vec<String>,
    /// The lines about credentials for AWS.
    pub credentials: Vec<String>,
    /// The lines about breakers.
    pub breakers: Vec<String>,
    /// The lines that hold the canary.
    pub leaks: Vec<String>,
}

/// The log from now on.
pub fn watch_log() -> watch::Receiver<Log> {
    static LOG: LazyLock<watch::Sender<Log>> = LazyLock::new(|| {
        let log = watch::Sender::new(Log::default());
        let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        lines.with_writer(Writer(log.clone())).try_init().expect("no other test of this binary logs");
        log
    });
    LOG.subscribe()
}

/// The lines that tell of the request with this id, of which there is at least one by and by.
///
/// # Panics
///
/// When there is none after a while.
pub async fn lines_of(log: &mut watch::Receiver<Log>, id: &str) -> Vec<String> {
    let of_request = |line: &&String| line.contains(&format!("request_id={id} "));
    let found = log.wait_for(|log| log.requests.iter().any(|line| of_request(&line)));
    let log = tokio::time::timeout(PATIENCE, found).await.expect("a line about the request").unwrap();
    log.requests.iter().filter(of_request).cloned().collect()
}

#[derive(Debug, Clone)]
struct Writer(watch::Sender<Log>);

impl io::Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.send_if_modified(|log| {
            log.lines += 1;
            let is_request = text.contains("http::request_log");
            if is_request {
                log.requests.push(text.clone().into_owned());
            }
            if text.contains("candidates were judged") {
                log.judgements.push(text.clone().into_owned());
            }
            if text.contains("credentials were found") {
                log.credentials.push(text.clone().into_owned());
            }
            if text.contains("breaker has ") {
                log.breakers.push(text.clone().into_owned());
            }
            if text.contains(CANARY) {
                log.leaks.push(text.clone().into_owned());
            }
            is_request
        });
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Writer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
