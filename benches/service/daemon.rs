//! The daemon as a process of its own, and bare connections to it, which add nothing to what is measured.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::bedrock_stub::{ACCESS_KEY_ID, BedrockStub, REGION, SECRET_ACCESS_KEY};
use crate::upstream::Upstream;

/// How long anything may take before the measurement fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running daemon that answers by somebody else; killed when it is dropped.
pub struct Daemon {
    pub address: SocketAddr,
    process: Child,
    log: PathBuf,
    _state: tempfile::TempDir,
}

impl Daemon {
    /// Starts a daemon without a local model, configured to call `provider` with `fields` beside.
    pub async fn start(provider: Value, fields: Value) -> Self {
        let state = tempfile::tempdir().expect("there is a directory for temporary files");
        let port_file = state.path().join("port");
        let log = state.path().join("log");
        let mut active = json!({"model": "scripted", "max_retries": 0, "use_n": "never"});
        merge(&mut active, provider);
        merge(&mut active, fields);
        // Configured from the start, so that the model that ships is never loaded.
        let settings = state.path().join("settings.json");
        fs::write(&settings, json!({"active": active}).to_string()).expect("the directory is new");
        let process = Command::new(env!("CARGO_BIN_EXE_itsd"))
            .args(["serve", "--port", "0", "--config"])
            .arg(&settings)
            .arg("--port-file")
            .arg(&port_file)
            .arg("--state-dir")
            .arg(state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("the directory is new"))
            .spawn()
            .expect("the daemon can be started");
        let port = until_some("the daemon starts", || fs::read_to_string(&port_file).ok()?.trim().parse().ok()).await;
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), process, log, _state: state }
    }

    /// Resident memory in MB of 10⁶ bytes.
    pub fn resident_mb(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs, on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has one");
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().expect("it is a number of KiB");
        kib * 1024.0 / 1e6
    }

    /// Tells it to stop.
    pub fn terminate(&self) {
        let told = Command::new("kill").arg(self.process.id().to_string()).status();
        assert!(told.is_ok_and(|status| status.success()), "the daemon runs");
    }

    /// Waits until its log says so.
    pub async fn wait_for_log(&self, words: &str) {
        until_some(words, || fs::read_to_string(&self.log).ok()?.contains(words).then_some(())).await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Looks again and again until there is something to see.
async fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            match look() {
                Some(seen) => break seen,
                None => sleep(Duration::from_millis(10)).await, // the pause between two looks
            }
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("it never came to this: {what}"))
}

/// A client's connection.
pub struct Connection {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.expect("somebody listens");
        socket.set_nodelay(true).expect("it is TCP");
        Self { socket, received: Vec::new() }
    }

    /// Asks a question, without waiting for the answer.
    pub async fn ask(&mut self, body: &Value) {
        self.post("/v1/chat/completions", "asked", body).await;
    }

    /// The same under an id of its own.
    pub async fn post(&mut self, path: &str, id: &str, body: &Value) {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nx-request-id: {id}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.received.clear();
        self.socket.write_all(request.as_bytes()).await.expect("the connection is open");
    }

    /// Reads until this was received.
    pub async fn read_until(&mut self, end: &[u8]) {
        let reading = async {
            while !self.received.windows(end.len()).any(|window| window == end) {
                let read = self.socket.read_buf(&mut self.received).await.expect("the connection is open");
                assert!(read > 0, "the answer breaks off: {}", self.text());
            }
        };
        if timeout(PATIENCE, reading).await.is_err() {
            panic!("{:?} never came: {}", String::from_utf8_lossy(end), self.text());
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }
}

/// The provider that the scripted upstream is.
pub fn scripted(upstream: &Upstream) -> Value {
    json!({"provider": "openai-compatible", "endpoint": upstream.base_url()})
}

/// The provider that the stub of Bedrock is, with the keys that it knows.
pub fn bedrock(stub: &BedrockStub) -> Value {
    let keys = json!({
        "aws_access_key_id": ACCESS_KEY_ID, "aws_secret_access_key": SECRET_ACCESS_KEY, "aws_region_name": REGION
    });
    json!({"provider": "bedrock", "endpoint": stub.url(), "extra_args": keys})
}

/// A chat request with `fields` beside the question.
pub fn question(fields: Value) -> Value {
    let mut question = json!({"model": "scripted", "messages": [{"role": "user", "content": "What is 6 times 7?"}]});
    merge(&mut question, fields);
    question
}

fn merge(base: &mut Value, fields: Value) {
    let (Value::Object(base), Value::Object(fields)) = (base, fields) else { panic!("both are objects") };
    base.extend(fields);
}
