//! What signals do to the daemon: the first lets requests finish, the second ends them.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};

use crate::app::{client, document, question, receive};
use crate::upstream::{Point, Step, Upstream};

/// The program as it is installed, which is killed where a test fails.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended by itself, unless a test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    fn terminate(&self) {
        let told = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        assert!(told.expect("there is kill").success());
    }
}

/// Reads the log up to the line that holds `words`, and returns that.
async fn log_until(mut log: BufReader<ChildStderr>, words: &'static str) -> (BufReader<ChildStderr>, String) {
    let read = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the log ended without: {words}");
        }
        (log, line)
    });
    read.await.unwrap()
}

#[tokio::test]
async fn the_second_signal_ends_what_runs_and_is_no_defect() {
    let state = tempfile::tempdir().unwrap();
    let port_file = state.path().join("port");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_itsd"));
    daemon.args(["serve", "--port", "0", "--log-format", "text", "--port-file"]).arg(&port_file);
    daemon.arg("--state-dir").arg(state.path()).env_clear().current_dir(state.path()).stderr(Stdio::piped());
    let mut daemon = Daemon(daemon.spawn().expect("the program starts"));
    let log = BufReader::new(daemon.0.stderr.take().expect("a pipe"));
    let (log, _) = log_until(log, "listening on").await;
    let url = format!("http://127.0.0.1:{}", std::fs::read_to_string(&port_file).unwrap().trim());

    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::hang_at(Point::Request));
    let fields = json!({"budget": 2});
    let post = |path: &str, body: Value| {
        let request = client().post(format!("{url}{path}")).header("content-type", "application/json");
        receive(request.body(body.to_string()))
    };
    post("/configure", document(&upstream, fields)).await.ok();
    let ask = |fields| tokio::spawn(post("/v1/chat/completions", question(fields)));
    let chats = [json!({}), json!({"stream": true}), json!({"budget": 1})].map(ask);
    upstream.wait_for(|counters| counters.in_flight == 5).await;

    daemon.terminate();
    let (log, _) = log_until(log, "stopping: ").await;
    daemon.terminate();
    for chat in chats {
        assert_eq!(chat.await.unwrap().error(503)["type"], "unavailable");
    }
    let rest = tokio::task::spawn_blocking(move || log.lines().map(Result::unwrap).collect::<Vec<_>>()).await.unwrap();
    assert!(rest.iter().all(|line| !line.contains("ERROR")), "{rest:?}");
    assert!(daemon.0.wait().unwrap().success());
}
