//! Profiles that change while the daemon runs, and those whose credentials come from a process that takes its time. The
//! stub checks every signature.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::app::{PATIENCE, TestApp};
use crate::bedrock_configuration::{app_in, ask, document, one_call};
use crate::bedrock_stub::{ACCESS_KEY_ID, BedrockStub, Control, Credentials, SECRET_ACCESS_KEY};
use crate::log_watch::watch_log;

/// A folder with files of profiles.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What is at hand under a name is replaced.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A daemon that has these files, with the profile `mine` configured.
    async fn app(&self, stub: &BedrockStub, fields: Value) -> TestApp {
        let (config, credentials) = (self.path("config"), self.path("credentials"));
        let app = app_in(&[
            ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", &stub.url()),
            ("AWS_CONFIG_FILE", config.to_str().unwrap()),
            ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().unwrap()),
            ("AWS_REGION", "us-east-1"),
        ])
        .await;
        let mut whole = document(json!({"extra_args": {"aws_profile_name": "mine"}}));
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        app.post("/configure", &whole).await.ok();
        app
    }
}

/// A process that tells of each time it is run, waits until the gate is written to, and gives the stub's keys.
fn gated_process(files: &Files) -> (PathBuf, PathBuf) {
    let (gate, runs, script) = (files.path("gate"), files.path("runs"), files.path("process"));
    let made = std::process::Command::new("mkfifo").arg(&gate).status().unwrap();
    assert!(made.success());
    let keys = json!({"Version": 1, "AccessKeyId": ACCESS_KEY_ID, "SecretAccessKey": SECRET_ACCESS_KEY});
    let (gate_path, runs_path) = (gate.display(), runs.display());
    files.write("process", &format!("echo run >> {runs_path}\ncat {gate_path} > /dev/null\necho '{keys}'\n"));
    files.write("config", &format!("[profile mine]\ncredential_process = sh {}\n", script.display()));
    (gate, runs)
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn keys_that_the_operator_replaces_in_the_files_are_used_at_once() {
    let stub = BedrockStub::start().await;
    let files = Files::new();
    let of_session = |token: &str| {
        files.write(
            "credentials",
            &format!(
                "[mine]\naws_access_key_id = ASIAROTATED000000000\naws_secret_access_key = rotated-0123456789\n\
                 aws_session_token = {token}\n"
            ),
        );
        let taken = Credentials::new("ASIAROTATED000000000", "rotated-0123456789").with_session_token(token);
        stub.control(Control { reset: true, credentials: Some(vec![taken]), ..Control::default() });
    };
    of_session("the-first-token");
    let app = files.app(&stub, json!({})).await;
    for token in ["the-first-token", "the-second-one", "another-token-still"] {
        of_session(token);
        ask(&app, json!({})).await.ok();
        assert_eq!(one_call(&stub).request.header("x-amz-security-token"), Some(token));
    }
}

#[tokio::test]
async fn a_profile_that_is_mended_works_with_the_next_call() {
    let stub = BedrockStub::start().await;
    let files = Files::new();
    let keys = format!("aws_access_key_id = {ACCESS_KEY_ID}\naws_secret_access_key = {SECRET_ACCESS_KEY}\n");
    files.write("config", "[profile mine]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = absent\n");
    let app = files.app(&stub, json!({})).await;
    for _ in 0..2 {
        assert_eq!(ask(&app, json!({})).await.error(502)["code"], "upstream_auth");
    }
    files.write("config", &format!("[profile mine]\n{keys}"));
    ask(&app, json!({})).await.ok();
    one_call(&stub);
    // And so does one that was not there for a while.
    files.write("config", "[profile other]\nregion = us-east-1\n");
    ask(&app, json!({})).await.error(502);
    files.write("config", &format!("[profile mine]\n{keys}\n"));
    ask(&app, json!({})).await.ok();
}

#[tokio::test]
async fn what_a_process_prints_is_for_the_operator_and_no_client() {
    let log = watch_log();
    let stub = BedrockStub::start().await;
    let files = Files::new();
    files.write("process", "echo 'the vault at vault-of-mine is sealed' >&2\nexit 3\n");
    files.write("config", &format!("[profile mine]\ncredential_process = sh {}\n", files.path("process").display()));
    let app = files.app(&stub, json!({})).await;
    for stream in [false, true] {
        let answer = ask(&app, json!({ "stream": stream })).await;
        assert_eq!(answer.error(502)["code"], "upstream_auth");
        assert!(!answer.text.contains("vault") && !answer.text.contains("tderr"), "{}", answer.text);
        assert!(answer.text.contains("daemon's log"), "{}", answer.text);
    }
    assert!(log.borrow().credentials.iter().any(|line| line.contains("vault-of-mine is sealed")));
}

#[tokio::test]
async fn a_process_that_waits_for_somebody_is_run_once_and_costs_nothing_until_it_is_done() {
    let stub = BedrockStub::start().await;
    let files = Files::new();
    let (gate, runs) = gated_process(&files);
    let breaker = json!({"min_calls": 2, "failure_share": 0.1, "cool_down_ms": 60_000});
    let fields = json!({"timeout_ms": 300, "max_retries": 3, "retry_budget": 20, "breaker": breaker});
    let app = files.app(&stub, fields).await;
    for stream in [false, true, false, true] {
        let error = ask(&app, json!({ "stream": stream })).await.error(502);
        let message = error["message"].as_str().unwrap();
        assert_eq!(error["code"], "upstream_auth", "{error}");
        assert!(message.contains("within 0.3 s; `timeout_ms` sets this limit"), "{message}");
    }
    let metrics = app.get("/metrics").await.text;
    let sum = |name: &str, label: &str| -> f64 {
        let told = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
        told.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    assert_eq!(sum("itsd_upstream_attempts_total", "outcome=\"upstream_auth\""), 4.0, "{metrics}");
    assert_eq!(sum("itsd_unknown_usage_calls_total", ""), 0.0, "nothing was spent");
    let opened = tokio::fs::write(&gate, "go\n");
    tokio::time::timeout(PATIENCE, opened).await.expect("the process waits at the gate").unwrap();
    // The process has yet to end, and no call waits for long here.
    let answered = async { while ask(&app, json!({})).await.status != 200 {} };
    tokio::time::timeout(PATIENCE, answered).await.expect("credentials come by and by");
    assert_eq!((lines(&runs), stub.counters().requests), (1, 1));
}

#[tokio::test]
async fn a_header_of_the_signatures_is_refused_by_its_name() {
    let stub = BedrockStub::start().await;
    let app = app_in(&[("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", &stub.url())]).await;
    for name in ["Authorization", "x-amz-date", "X-Amz-Security-Token"] {
        let mut fields = document(json!({}));
        fields["extra_args"]["headers"] = json!({name: "Bearer something"});
        let error = app.post("/configure", &fields).await.error(400);
        assert_eq!(error["param"], format!("extra_args.headers.{name}"), "{error}");
        assert!(error["message"].as_str().unwrap().contains("`api_key`"), "{error}");
    }
}
