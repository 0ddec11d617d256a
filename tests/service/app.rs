//! The real daemon for a test: built and run as `itsd serve` does it, on a free port, with a state directory
//! of its own and an environment that is injected.
//!
//! When a [`TestApp`] stops or is dropped, the server must end and every task of its runs must have gone:
//! nothing that a request started may outlive the daemon.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use itsd::app::{Application, Stopper};
use itsd::config::cli::ServeArguments;
use itsd::config::{Environment, Settings};
use itsd::runtime::Runtime;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::upstream::Upstream;

/// How long a test waits for what must come, before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running daemon and a client for it.
pub struct TestApp {
    pub address: SocketAddr,
    pub client: reqwest::Client,
    pub state_dir: Arc<TempDir>,
    stopper: Option<Stopper>,
    server: Option<JoinHandle<()>>,
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

/// A daemon with the settings that ship and an empty environment.
pub async fn spawn_app() -> TestApp {
    spawn_app_with(|_| {}).await
}

/// A daemon whose settings are changed by `change`.
pub async fn spawn_app_with(change: impl FnOnce(&mut Settings)) -> TestApp {
    let state_dir = Arc::new(tempfile::tempdir().unwrap());
    spawn_app_in(state_dir, &[], change).await
}

/// A daemon on a state directory that may have been used before.
pub async fn spawn_app_in(
    state_dir: Arc<TempDir>,
    environment: &[(&str, &str)],
    change: impl FnOnce(&mut Settings),
) -> TestApp {
    let environment = Environment::from_pairs(environment.iter().copied());
    let arguments =
        ServeArguments { port: Some(0), state_dir: Some(state_dir.path().to_owned()), ..ServeArguments::default() };
    let mut settings = Settings::load(&arguments, &environment).unwrap();
    settings.server.workers = 2;
    settings.llama.threads = Some(1);
    change(&mut settings);
    let (sender, bound) = oneshot::channel();
    let server = thread::spawn(move || serve(&settings, environment, sender));
    let (address, stopper) = bound.await.expect("the daemon starts");
    TestApp { address, client: client(), state_dir, stopper: Some(stopper), server: Some(server) }
}

/// A daemon whose active configuration leads to `upstream`, with `fields` put over it.
pub async fn spawn_app_for(upstream: &Upstream, fields: Value) -> TestApp {
    let app = spawn_app().await;
    app.configure(upstream, fields).await;
    app
}

/// The document of a configuration that leads to `upstream`: no retries, so that a test sees every call.
pub fn document(upstream: &Upstream, fields: Value) -> Value {
    let document = json!({
        "provider": "openai-compatible", "endpoint": upstream.base_url(), "model": "scripted", "max_retries": 0
    });
    merged(document, fields)
}

/// A chat request, with `fields` put over it; null takes a field away.
pub fn question(fields: Value) -> Value {
    merged(json!({"model": "scripted", "messages": [{"role": "user", "content": "What is 6 times 7?"}]}), fields)
}

fn merged(mut base: Value, fields: Value) -> Value {
    let object = base.as_object_mut().unwrap();
    for (name, value) in fields.as_object().unwrap() {
        object.insert(name.clone(), value.clone());
    }
    object.retain(|_, value| !value.is_null());
    base
}

pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().http1_only().tls_certs_only([]).timeout(PATIENCE).build().unwrap()
}

impl TestApp {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> Answer {
        receive(self.client.get(self.url(path))).await
    }

    /// Checks that requests are answered, and that there is nothing to say of that.
    pub async fn assert_ready(&self) {
        let mut readiness = self.get("/ready").await.ok();
        readiness.as_object_mut().unwrap().remove("providers");
        assert_eq!(readiness, json!({"ready": true, "reasons": []}));
    }

    /// Waits until what `/ready` says of the providers satisfies `condition`.
    pub async fn wait_for_providers(&self, condition: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                let providers = self.get("/ready").await.ok()["providers"].take();
                if condition(&providers) {
                    return providers;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the providers come to what is waited for")
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string()).await
    }

    pub async fn post_text(&self, path: &str, body: &str) -> Answer {
        receive(self.json_request(path, body)).await
    }

    /// A request that a test may add headers to.
    pub fn json_request(&self, path: &str, body: &str) -> reqwest::RequestBuilder {
        self.client.post(self.url(path)).header("content-type", "application/json").body(body.to_owned())
    }

    pub async fn chat(&self, fields: Value) -> Answer {
        self.post("/v1/chat/completions", &question(fields)).await
    }

    /// A chat request that runs beside the test. Aborting it closes its connection.
    pub fn chat_in_background(&self, fields: Value) -> tokio::task::JoinHandle<Answer> {
        tokio::spawn(receive(self.json_request("/v1/chat/completions", &question(fields).to_string())))
    }

    /// Sets the active configuration to one that leads to `upstream`.
    pub async fn configure(&self, upstream: &Upstream, fields: Value) -> Value {
        let answer = self.post("/configure", &document(upstream, fields)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    /// What comes back for `request`, byte for byte, until the daemon closes the connection.
    pub async fn raw(&self, request: &str) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        tokio::time::timeout(PATIENCE, socket.read_to_end(&mut response)).await.expect("a response").unwrap();
        String::from_utf8(response).unwrap()
    }

    /// Waits until a call waits for its turn.
    pub async fn somebody_queues(&self) {
        let is_queue = |line: &str| line.starts_with("itsd_queued{") && !line.ends_with(" 0");
        let queue = async {
            while !self.get("/metrics").await.text.lines().any(is_queue) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, queue).await.expect("a call waits for its turn");
    }

    /// Begins a graceful shutdown beside the test.
    pub fn drain_in_background(&self) -> tokio::task::JoinHandle<()> {
        let stopper = self.stopper.clone().expect("the daemon runs");
        tokio::spawn(async move { stopper.drain().await })
    }

    /// Ends the daemon at once, waits until it is gone, and hands out its state directory.
    pub fn stop(mut self) -> Arc<TempDir> {
        self.end();
        Arc::clone(&self.state_dir)
    }

    fn end(&mut self) {
        // Idle connections of the client would otherwise be there until the daemon closes them.
        self.client = client();
        if let Some(stopper) = self.stopper.take() {
            // The first poll gives the order; that it was carried out shows when the thread ends.
            let _ = stopper.drain().now_or_never();
        }
        if let Some(server) = self.server.take() {
            let ended = server.join();
            if !thread::panicking() {
                ended.expect("the daemon ends with nothing left running");
            }
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.end();
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body of a success.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// The text that a chat request was answered with.
    #[track_caller]
    pub fn content(&self) -> String {
        self.ok()["choices"][0]["message"]["content"].as_str().expect("text").to_owned()
    }

    /// The error object of a refusal, whose shape and status are checked on the way.
    #[track_caller]
    pub fn error(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        let body = self.json();
        assert_eq!(body["detail"], body["error"]["message"], "{body}");
        assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
        let mut fields: Vec<_> = body["error"].as_object().unwrap().keys().cloned().collect();
        fields.sort_unstable();
        assert_eq!(fields, ["code", "message", "param", "type"]);
        body["error"].clone()
    }

    /// The JSON of every event of a stream that ended as it should.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text);
        let (body, _) = self.text.split_once("data: [DONE]\n\n").expect("the stream has its terminator");
        events(body)
    }
}

/// The JSON of the events of a stream.
pub fn events(body: &str) -> Vec<Value> {
    let events = body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    events.map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))).collect()
}

/// Sends a request and reads the whole response.
pub async fn receive(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("the daemon answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.expect("the response comes whole");
    Answer { status, headers, text }
}

/// The daemon's main thread, after the example of `itsd serve`.
fn serve(settings: &Settings, environment: Environment, bound: oneshot::Sender<(SocketAddr, Stopper)>) {
    let workers = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    actix_web::rt::System::new().block_on(async {
        let listener = itsd::app::bind(settings).unwrap();
        let runtime = Arc::new(Runtime::start(settings, environment).await.unwrap());
        let application = Application::build(settings, listener, runtime, workers.handle().clone()).unwrap();
        let _ = bound.send((application.address, application.stopper()));
        application.run().await.unwrap();
    });
    // Threads that served connections let go of their runs on their way out.
    let deadline = Instant::now() + PATIENCE;
    while workers.metrics().num_alive_tasks() > 0 {
        assert!(Instant::now() < deadline, "{} tasks outlived the daemon", workers.metrics().num_alive_tasks());
        thread::sleep(Duration::from_millis(1));
    }
    workers.shutdown_timeout(Duration::from_secs(1));
}
