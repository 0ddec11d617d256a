//! As whom Bedrock is called: every way to name credentials, those of the daemon's own and where they may go, and that no
//! key is seen anywhere. The stub checks every signature.

use std::path::Path;

use serde_json::{Value, json};

use crate::app::{TestApp, receive};
use crate::bedrock_configuration::{MODEL, app_at, app_in, ask, document, one_call};
use crate::bedrock_stub::{
    ACCESS_KEY_ID, BEARER_KEY, BedrockStub, Control, Credentials, SECRET_ACCESS_KEY, SESSION_TOKEN, Step,
    TEMPORARY_KEY_ID,
};
use crate::log_watch::{CANARY, watch_log};

/// The operator's files of profiles, as the SDK reads them.
struct Profiles {
    home: tempfile::TempDir,
    config: String,
    credentials: String,
}

impl Profiles {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".aws");
        std::fs::create_dir(&folder).unwrap();
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let process = json!({
            "Version": 1, "AccessKeyId": ACCESS_KEY_ID, "SecretAccessKey": SECRET_ACCESS_KEY
        });
        let config = write(
            "config",
            format!(
                "[default]\nregion = us-east-1\n[profile by-process]\nregion = us-east-1\ncredential_process = echo \
                 '{process}'\n[profile broken]\ncredential_process = false\n[profile nothing]\nregion = us-east-1\n"
            ),
        );
        let credentials = write(
            "credentials",
            format!(
                "[default]\naws_access_key_id = {ACCESS_KEY_ID}\naws_secret_access_key = {SECRET_ACCESS_KEY}\n[temporary]\n\
                 aws_access_key_id = {TEMPORARY_KEY_ID}\naws_secret_access_key = {SECRET_ACCESS_KEY}\naws_session_token = \
                 {SESSION_TOKEN}\n"
            ),
        );
        Self { home, config, credentials }
    }

    fn home(&self) -> &str {
        self.home.path().to_str().unwrap()
    }
}

/// A configuration that says no more of AWS than this.
fn saying(extra: Value) -> Value {
    document(json!({ "extra_args": extra }))
}

async fn app_with(stub: &BedrockStub, variables: &[(&str, &str)]) -> TestApp {
    let address = stub.url();
    app_in(&[&[("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", address.as_str())], variables].concat()).await
}

#[tokio::test]
async fn every_way_to_name_credentials_signs_with_them() {
    let stub = BedrockStub::start().await;
    let profiles = Profiles::new();
    let (home, config, credentials) = (profiles.home(), profiles.config.as_str(), profiles.credentials.as_str());
    let region = ("AWS_REGION", "us-east-1");
    let of_user = [("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)];
    let of_session = [
        ("AWS_ACCESS_KEY_ID", TEMPORARY_KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ("AWS_SESSION_TOKEN", SESSION_TOKEN),
    ];
    let file = profiles.home.path().join("token");
    std::fs::write(&file, format!("{SESSION_TOKEN}\n")).unwrap();
    let file = format!("file:{}", file.display());
    let with_token = json!({
        "aws_access_key_id": TEMPORARY_KEY_ID, "aws_secret_access_key": SECRET_ACCESS_KEY,
        "aws_session_token": SESSION_TOKEN, "aws_region_name": "us-east-1"
    });
    let by_reference = json!({
        "aws_access_key_id": "env:MY_ID", "aws_secret_access_key": "${MY_KEY}", "aws_session_token": file
    });
    let mine = [("MY_ID", TEMPORARY_KEY_ID), ("MY_KEY", SECRET_ACCESS_KEY)];
    for (variables, extra, expected) in [
        (vec![], with_token, TEMPORARY_KEY_ID),
        ([&mine[..], &[region]].concat(), by_reference, TEMPORARY_KEY_ID),
        ([&of_user[..], &[region]].concat(), json!({}), ACCESS_KEY_ID),
        ([&of_session[..], &[region]].concat(), json!({}), TEMPORARY_KEY_ID),
        // Files: at the usual place, elsewhere, and one of the two alone.
        (vec![("HOME", home)], json!({}), ACCESS_KEY_ID),
        (vec![("HOME", home), ("AWS_PROFILE", "temporary"), region], json!({}), TEMPORARY_KEY_ID),
        (vec![("AWS_SHARED_CREDENTIALS_FILE", credentials), region], json!({}), ACCESS_KEY_ID),
        (vec![("AWS_CONFIG_FILE", config)], json!({"aws_profile_name": "by-process"}), ACCESS_KEY_ID),
        (
            vec![("HOME", home)],
            json!({"aws_profile_name": "temporary", "aws_region_name": "us-east-1"}),
            TEMPORARY_KEY_ID,
        ),
        // What the configuration names counts before what the operator has, and variables before files.
        (
            [&of_user[..], &[("HOME", home), region]].concat(),
            json!({"aws_profile_name": "temporary"}),
            TEMPORARY_KEY_ID,
        ),
        ([&of_session[..], &[("HOME", home)]].concat(), json!({}), TEMPORARY_KEY_ID),
    ] {
        let app = app_with(&stub, &variables).await;
        let told = app.post("/configure", &saying(extra.clone())).await.ok();
        assert_eq!(told["warnings"], json!([]), "{extra}");
        ask(&app, json!({})).await.ok();
        assert_eq!(one_call(&stub).key_id.as_deref(), Some(expected), "{variables:?} {extra}");
    }
}

#[tokio::test]
async fn a_key_of_bedrocks_own_is_borne_in_place_of_a_signature() {
    let stub = BedrockStub::start().await;
    let variable = [("AWS_BEARER_TOKEN_BEDROCK", BEARER_KEY)];
    let others = [("AWS_ACCESS_KEY_ID", "AKIAOTHER"), ("AWS_SECRET_ACCESS_KEY", "other-0123456789")];
    let region = json!({"aws_region_name": "us-east-1"});
    for (variables, fields) in [
        (vec![], json!({"api_key": BEARER_KEY, "extra_args": region})),
        (variable.to_vec(), json!({"extra_args": region})),
        ([&variable[..], &others].concat(), json!({"extra_args": region})),
        (others.to_vec(), json!({"api_key": BEARER_KEY, "extra_args": region})),
    ] {
        let app = app_with(&stub, &variables).await;
        assert_eq!(app.post("/configure", &document(fields)).await.ok()["warnings"], json!([]));
        ask(&app, json!({})).await.ok();
        let call = one_call(&stub);
        assert_eq!(call.request.header("authorization"), Some(format!("Bearer {BEARER_KEY}").as_str()));
        assert_eq!(call.request.header("x-amz-security-token"), None);
    }
}

#[tokio::test]
async fn the_daemons_own_credentials_go_to_no_address_that_a_client_names() {
    let stub = BedrockStub::start().await;
    let profiles = Profiles::new();
    let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)];
    let at_home = json!({"aws_region_name": "us-east-1"});
    for variables in [keys.to_vec(), vec![("AWS_BEARER_TOKEN_BEDROCK", BEARER_KEY)], vec![("HOME", profiles.home())]] {
        let app = app_in(&variables).await;
        for endpoint in ["https://evil.example", "https://evil.example/.bedrock-runtime.us-east-1.vpce.amazonaws.com"] {
            let fields = json!({"endpoint": endpoint, "extra_args": at_home});
            let error = app.post("/configure", &document(fields)).await.error(400);
            assert_eq!(error["param"], "extra_args.aws_access_key_id", "{error}");
        }
        let mixed = json!(["https://bedrock-runtime.us-east-1.amazonaws.com", stub.url()]);
        let fields = json!({"endpoint": mixed, "extra_args": at_home});
        app.post("/configure", &document(fields)).await.error(400);
        // Bedrock's own, in public and in a private network.
        for own in [
            "https://bedrock-runtime.us-east-1.amazonaws.com",
            "https://vpce-0a1b2c-d3e4f5.bedrock-runtime.us-east-1.vpce.amazonaws.com",
        ] {
            app.post("/configure", &document(json!({"endpoint": own, "extra_args": at_home}))).await.ok();
        }
        // What is named goes where the configuration says.
        let named = json!({
            "endpoint": stub.url(), "extra_args": {
                "aws_region_name": "us-east-1", "aws_access_key_id": ACCESS_KEY_ID,
                "aws_secret_access_key": SECRET_ACCESS_KEY
            }
        });
        app.post("/configure", &document(named)).await.ok();
        ask(&app, json!({})).await.ok();
        one_call(&stub);
    }
}

#[tokio::test]
async fn credentials_that_are_not_to_be_had_are_told_of_at_once_and_nothing_is_called() {
    let stub = BedrockStub::start().await;
    let profiles = Profiles::new();
    let app = app_with(&stub, &[("HOME", profiles.home()), ("AWS_REGION", "us-east-1")]).await;
    let with_retries = |extra: Value| document(json!({"max_retries": 3, "extra_args": extra}));
    app.post("/configure", &with_retries(json!({"aws_profile_name": "broken"}))).await.ok();
    for stream in [false, true] {
        let answer = ask(&app, json!({ "stream": stream })).await;
        let error = answer.error(502);
        assert_eq!(error["code"], "upstream_auth", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("no credentials to sign with") && message.contains("aws_profile_name"), "{message}");
    }
    assert_eq!(stub.counters().requests, 0);

    // A profile that says nothing of credentials will not have any later.
    let refused = saying(json!({"aws_profile_name": "nothing"}));
    let error = app.post("/configure?validate_only=true", &refused).await.error(400);
    assert_eq!(error["param"], "extra_args.aws_profile_name");
    assert!(error["message"].as_str().unwrap().contains("says of no credentials"), "{error}");

    // Where only the machine itself can know, it is a warning.
    let app = app_with(&stub, &[("AWS_REGION", "us-east-1")]).await;
    let told = app.post("/configure?validate_only=true", &saying(json!({}))).await.ok();
    let warnings = told["warnings"].to_string();
    assert!(warnings.contains("no credentials are named") && warnings.contains("the first call asks"), "{warnings}");
    let app = app_with(&stub, &[("HOME", profiles.home()), ("AWS_REGION", "us-east-1"), ("AWS_PROFILE", "gone")]).await;
    let told = app.post("/configure?validate_only=true", &saying(json!({}))).await.ok();
    assert!(told["warnings"].to_string().contains("AWS_PROFILE names `gone`"), "{told}");
    let app = app_with(&stub, &[("AWS_REGION", "us-east-1"), ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://x")]).await;
    assert_eq!(app.post("/configure?validate_only=true", &saying(json!({}))).await.ok()["warnings"], json!([]));
}

#[tokio::test]
async fn a_file_of_profiles_that_cannot_be_read_is_named() {
    let stub = BedrockStub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials");
    std::fs::write(&path, "aws_access_key_id = x\n").unwrap();
    let path = path.to_str().unwrap();
    let app = app_with(&stub, &[("AWS_SHARED_CREDENTIALS_FILE", path), ("AWS_REGION", "us-east-1")]).await;
    let error = app.post("/configure", &saying(json!({}))).await.error(400);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(path) && !message.contains("aws_access_key_id = x"), "{message}");
}

#[tokio::test]
async fn requests_name_bedrock_where_the_operator_has_keys_and_a_region() {
    let stub = BedrockStub::start().await;
    let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)];
    let elsewhere = json!({"provider": "openai-compatible", "endpoint": "http://127.0.0.1:9", "model": "m"});
    let asked = json!({"model": MODEL, "provider": "bedrock"});
    let app = app_with(&stub, &[&keys[..], &[("AWS_REGION", "us-east-1")]].concat()).await;
    assert_eq!(app.post("/configure", &elsewhere).await.ok()["warnings"], json!([]));
    for name in [MODEL.to_owned(), format!("bedrock/{MODEL}")] {
        ask(&app, json!({"model": name, "provider": "bedrock"})).await.ok();
        let call = one_call(&stub);
        assert_eq!((call.key_id.as_deref(), call.model_id.as_str()), (Some(ACCESS_KEY_ID), MODEL));
    }
    let app = app_with(&stub, &keys).await;
    assert_eq!(app.post("/configure", &elsewhere).await.ok()["warnings"], json!([]));
    assert_eq!(ask(&app, asked).await.error(400)["param"], "provider");
}

#[tokio::test]
async fn no_key_is_in_a_response_a_log_line_or_a_file() {
    let log = watch_log();
    let stub = BedrockStub::start().await;
    let (id, key) = (format!("AKIA{CANARY}"), format!("{CANARY}-secret-access-key"));
    let (token, bearer) = (format!("{CANARY}-session-token"), format!("{CANARY}-bearer-key"));
    let app = app_at(&stub).await;
    let of_session = json!({
        "aws_access_key_id": id, "aws_secret_access_key": key, "aws_session_token": token, "aws_region_name": "us-east-1"
    });
    let borne = json!({"api_key": bearer, "extra_args": {"aws_region_name": "us-east-1"}});
    for fields in [json!({"extra_args": of_session}), borne] {
        stub.control(Control {
            reset: true,
            credentials: Some(vec![Credentials::new(&id, &key).with_session_token(&token)]),
            bearer_keys: Some(vec![bearer.clone()]),
            ..Control::default()
        });
        clean(&app.post("/configure", &document(fields)).await.text);
        clean(&app.get("/configure").await.text);
        clean(&app.get("/configure/history").await.text);
        // As AWS quotes a request that it has signed otherwise.
        let quoting = format!(
            "The request signature we calculated does not match the signature you provided.\n\nThe Canonical String for \
             this request should have been\n'POST\n/model/x/converse\n\nx-amz-security-token:{token}\n{id} {key} {bearer}'"
        );
        let step = |status: u16, body: String| Step { status: Some(status), body: Some(body), ..Step::default() };
        for status in [400, 403, 429, 500] {
            let body = json!({"message": quoting}).to_string();
            stub.answer_with(move |_| step(status, body.clone()));
            for stream in [false, true] {
                clean(&ask(&app, json!({ "stream": stream })).await.text);
            }
        }
        let echo = quoting.clone();
        stub.answer_with(move |_| step(200, echo.clone()));
        clean(&ask(&app, json!({})).await.text);
        stub.answer_with(|_| Step::text("42"));
        ask(&app, json!({})).await.ok();
        ask(&app, json!({"stream": true})).await.events();
        // Keys that AWS does not take.
        stub.control(Control { credentials: Some(Vec::new()), bearer_keys: Some(Vec::new()), ..Control::default() });
        let error = ask(&app, json!({})).await;
        clean(&error.text);
        assert_eq!(error.error(502)["code"], "upstream_auth");
    }
    for wrong in [json!({"aws_access_key_id": [id]}), json!({"aws_secret_access_key": key, "aws_nonsense": token})] {
        clean(&app.post("/configure", &saying(wrong)).await.text);
    }
    let request = app.json_request("/configure", &format!("{{\"extra_args\": {{\"aws_session_token\": \"{token}\""));
    clean(&receive(request).await.text);
    clean(&app.get("/metrics").await.text);
    let folder = app.stop();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        clean_file(&entry.unwrap().path());
    }
    let log = log.borrow();
    assert!(log.lines > 20, "the log was read: {} lines", log.lines);
    assert!(log.leaks.is_empty(), "the canary is in the log: {:.2000}", log.leaks[0]);
}

#[track_caller]
fn clean(text: &str) {
    assert!(!text.contains(CANARY), "{text}");
}

#[track_caller]
fn clean_file(path: &Path) {
    let Ok(bytes) = std::fs::read(path) else { return };
    assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()), "{}", path.display());
}
