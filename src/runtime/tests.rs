use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::config::cli::ServeArguments;
use crate::config::field::SettingsCode;
use crate::store::seal::KEY_FILE;

/// A state directory, and what a daemon on it is started with. No model ships with it.
struct House {
    dir: TempDir,
    file: Option<Value>,
    environment: Environment,
}

impl House {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), file: None, environment: Environment::default() }
    }

    async fn start(&self) -> Arc<Runtime> {
        let arguments = ServeArguments { state_dir: Some(self.dir.path().join("state")), ..Default::default() };
        let mut settings = Settings::load(&arguments, &Environment::default()).unwrap();
        settings.models.dirs = vec![self.dir.path().join("models")];
        settings.active = self.file.clone().map(document);
        Arc::new(Runtime::start(&settings, self.environment.clone()).await.unwrap())
    }

    /// The daemon ends and is started again.
    async fn restart(&self, runtime: Arc<Runtime>) -> Arc<Runtime> {
        drop(runtime);
        self.start().await
    }

    fn state(&self) -> std::path::PathBuf {
        self.dir.path().join("state")
    }
}

fn document(value: Value) -> Document {
    value.as_object().unwrap().clone()
}

fn model(name: &str) -> Value {
    json!({"provider": "openai-compatible", "endpoint": "http://127.0.0.1:9", "model": name})
}

async fn set(runtime: &Arc<Runtime>, value: Value) -> Configured {
    runtime.configure(document(value), ConfigureOptions::default()).await.unwrap()
}

async fn refused(runtime: &Arc<Runtime>, value: Value) -> crate::config::SettingsError {
    match runtime.configure(document(value), ConfigureOptions::default()).await.unwrap_err() {
        ConfigureError::Settings(error) => error,
        other => panic!("{other}"),
    }
}

fn active_model(runtime: &Runtime) -> String {
    runtime.snapshot().unwrap().models()[0].id.clone()
}

#[tokio::test]
async fn a_configuration_is_active_at_once_and_again_after_a_restart() {
    let house = House::new();
    let runtime = house.start().await;
    assert!(runtime.snapshot().is_none());
    assert!(runtime.readiness().await[0].contains("POST /configure"));

    let first = set(&runtime, model("a")).await;
    assert_eq!((first.revision, first.message.as_str()), (1, "Initialized a with self-consistency algorithm"));
    let mut second = model("b");
    second["budget"] = json!(3);
    second["alg"] = json!("none");
    assert_eq!(set(&runtime, second).await.message, "Initialized b with none algorithm");
    assert_eq!(runtime.readiness().await, Vec::<String>::new());

    let described = runtime.describe();
    let restarted = house.restart(runtime).await;
    assert_eq!(restarted.describe(), described);
    let active = restarted.snapshot().unwrap();
    assert_eq!((active.revision, active.run.budget), (2, 3));
}

#[tokio::test]
async fn a_refused_or_only_validated_document_changes_nothing() {
    let house = House::new();
    let runtime = house.start().await;
    set(&runtime, model("a")).await;
    for wrong in [
        json!({"model": "m", "endpoint": "http://gpu-1:8000"}),
        json!({"model": "m", "api_key": "env:NOT_SET"}),
        json!({"model": "m", "regex_patterns": ["("]}),
        json!({"model": "m", "lookahead": 2}),
        json!({"provider": "llama", "model": "missing"}),
        json!({"provider": "litellm", "model": "openai/m", "model_mapping": {"x": "groq/y"}}),
    ] {
        refused(&runtime, wrong).await;
    }
    let options = ConfigureOptions { validate_only: true, ..ConfigureOptions::default() };
    let validated = runtime.configure(document(model("b")), options).await.unwrap();
    let told = "b with self-consistency algorithm is valid; nothing was changed";
    assert_eq!((validated.revision, validated.message.as_str()), (1, told));
    assert_eq!(active_model(&runtime), "a");
    assert_eq!(active_model(&*house.restart(runtime).await), "a");
}

#[tokio::test]
async fn a_stale_revision_is_refused_and_the_right_one_taken() {
    let house = House::new();
    let runtime = house.start().await;
    let at = |revision| ConfigureOptions { if_match: Some(revision), ..ConfigureOptions::default() };
    runtime.configure(document(model("a")), at(0)).await.unwrap();
    set(&runtime, model("b")).await;
    let error = runtime.configure(document(model("c")), at(1)).await.unwrap_err();
    assert!(matches!(error, ConfigureError::Conflict { expected: 1, active: 2 }), "{error}");
    assert_eq!(runtime.configure(document(model("c")), at(2)).await.unwrap().revision, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_configurations_are_published_in_order_and_never_mixed() {
    const WRITERS: usize = 24;
    let house = House::new();
    let runtime = house.start().await;
    let mut first = model("model-1");
    first["budget"] = json!(1);
    set(&runtime, first).await;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (runtime, done) = (Arc::clone(&runtime), Arc::clone(&done));
            tokio::task::spawn_blocking(move || {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let active = runtime.snapshot().unwrap();
                    assert!(active.revision >= last, "{} after {last}", active.revision);
                    last = active.revision;
                    let name = format!("model-{}", active.run.budget);
                    assert_eq!(active.description.document["model"], name.as_str());
                    assert_eq!(active.description.revision, active.revision);
                    assert_eq!(active.route(&name).unwrap().model, name);
                }
            })
        })
        .collect();
    let writers: Vec<_> = (2..WRITERS + 2)
        .map(|budget| {
            let runtime = Arc::clone(&runtime);
            tokio::spawn(async move {
                let mut value = model(&format!("model-{budget}"));
                value["budget"] = json!(budget);
                set(&runtime, value).await.revision
            })
        })
        .collect();
    let mut revisions = Vec::new();
    for writer in writers {
        revisions.push(writer.await.unwrap());
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (2..WRITERS as i64 + 2).collect::<Vec<_>>());
    let last = runtime.snapshot().unwrap();
    assert_eq!(last.revision, WRITERS as i64 + 1);
    let described = runtime.describe();
    assert_eq!(house.restart(runtime).await.describe(), described);
}

#[tokio::test]
async fn a_configuration_whose_client_went_away_is_made_whole() {
    let house = House::new();
    let runtime = house.start().await;
    let lane = runtime.lane.lock().await;
    let mut configure = Box::pin(runtime.configure(document(model("a")), ConfigureOptions::default()));
    assert!(futures_util::poll!(&mut configure).is_pending());
    drop(configure);
    drop(lane);
    // The lane is fair: this one comes after the one that nobody waits for.
    assert_eq!(set(&runtime, model("b")).await.revision, 2);
}

#[tokio::test]
async fn the_key_is_shown_as_a_fingerprint_sealed_in_the_store_and_kept_when_sent_back() {
    let house = House::new();
    let runtime = house.start().await;
    let mut value = model("a");
    value["api_key"] = json!("sk-canary-1");
    value["extra_args"] = json!({"headers": {"X-Api-Key": "sk-canary-2", "X-Title": "t"}});
    set(&runtime, value).await;

    let mut shown = runtime.describe().unwrap().document;
    assert!(!serde_json::to_string(&shown).unwrap().contains("canary"));
    assert_eq!(shown["extra_args"]["headers"]["X-Title"], "t");
    for file in fs::read_dir(house.state()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"));
    }

    let restarted = house.restart(runtime).await;
    shown.insert("budget".to_owned(), json!(3));
    restarted.configure(shown.clone(), ConfigureOptions::default()).await.unwrap();
    let active = restarted.snapshot().unwrap();
    assert_eq!(active.run.budget, 3);
    assert_eq!(active.secrets["api_key"].expose_secret(), "sk-canary-1");
    assert_eq!(active.secrets["extra_args.headers.X-Api-Key"].expose_secret(), "sk-canary-2");

    shown["api_key"] = json!("sha256:00000000…");
    assert_eq!(refused(&restarted, Value::from(shown)).await.param, "api_key");
}

#[tokio::test]
async fn without_a_key_to_seal_with_a_literal_lasts_until_the_restart_and_that_is_said() {
    let house = House::new();
    let runtime = house.start().await;
    set(&runtime, model("a")).await;
    // A key that others can read is not used.
    fs::set_permissions(house.state().join(KEY_FILE), fs::Permissions::from_mode(0o644)).unwrap();

    let runtime = house.restart(runtime).await;
    let mut value = model("b");
    value["api_key"] = json!("sk-canary");
    let configured = set(&runtime, value).await;
    assert!(configured.warnings[0].contains("memory only"), "{:?}", configured.warnings);
    assert_eq!(runtime.snapshot().unwrap().secrets["api_key"].expose_secret(), "sk-canary");

    let restarted = house.restart(runtime).await;
    assert_eq!(active_model(&restarted), "a");
    assert!(restarted.not_restored()[0].contains("revision 2"), "{:?}", restarted.not_restored());
}

#[tokio::test]
async fn a_revision_that_cannot_be_prepared_any_more_leaves_the_one_before() {
    let mut house = House::new();
    house.environment = Environment::from_pairs([("MY_KEY", "k")]);
    let runtime = house.start().await;
    set(&runtime, model("a")).await;
    let mut value = model("b");
    value["api_key"] = json!("env:MY_KEY");
    set(&runtime, value).await;

    house.environment = Environment::default();
    let restarted = house.restart(runtime).await;
    assert_eq!(active_model(&restarted), "a");
    assert_eq!(restarted.snapshot().unwrap().revision, 1);
    let told = restarted.not_restored()[0].clone();
    assert!(told.contains("revision 2") && told.contains("MY_KEY"), "{told}");
    // The active revision is what a client read, although a newer one lies in the store.
    let options = ConfigureOptions { if_match: Some(1), ..ConfigureOptions::default() };
    assert_eq!(restarted.configure(document(model("c")), options).await.unwrap().revision, 3);
    // Whoever configures anew has dealt with it.
    assert!(restarted.not_restored().is_empty());
}

#[tokio::test]
async fn the_files_table_is_applied_when_it_changed_and_not_again() {
    let mut house = House::new();
    house.file = Some(model("from-file"));
    let runtime = house.start().await;
    assert_eq!((active_model(&runtime).as_str(), runtime.snapshot().unwrap().revision), ("from-file", 1));
    set(&runtime, model("by-request")).await;
    let runtime = house.restart(runtime).await;
    assert_eq!(active_model(&runtime), "by-request");

    house.file = Some(model("file-changed"));
    let runtime = house.restart(runtime).await;
    assert_eq!((active_model(&runtime).as_str(), runtime.snapshot().unwrap().revision), ("file-changed", 3));

    house.file = Some(json!({"model": "m", "api_key": "env:NOT_SET"}));
    let runtime = house.restart(runtime).await;
    assert_eq!(active_model(&runtime), "file-changed");
    assert!(runtime.not_restored()[0].contains("NOT_SET"), "{:?}", runtime.not_restored());
}

#[tokio::test]
async fn a_swap_keeps_a_client_that_both_configurations_need_and_drops_one_that_neither_does() {
    let house = House::new();
    let runtime = house.start().await;
    set(&runtime, model("a")).await;
    let first = runtime.snapshot().unwrap().route("a").unwrap().generator;
    set(&runtime, model("b")).await;
    let second = runtime.snapshot().unwrap().route("b").unwrap().generator;
    assert!(Arc::ptr_eq(&first, &second));

    let mut other = model("b");
    other["api_key"] = json!("another key");
    set(&runtime, other).await;
    let third = runtime.snapshot().unwrap().route("b").unwrap().generator;
    assert!(!Arc::ptr_eq(&first, &third));

    let unused = Arc::downgrade(&first);
    drop((first, second));
    assert_eq!(unused.strong_count(), 0);
}

#[tokio::test]
async fn names_lead_to_the_active_model_the_mapping_and_elsewhere_only_if_allowed() {
    let house = House::new();
    let runtime = house.start().await;
    let mut value = json!({
        "provider": "litellm", "endpoint": "http://127.0.0.1:9", "model": "openai/gpt-4o", "api_key": "k",
        "model_mapping": {"fast": "openai/gpt-4o-mini", "Qwen": "Qwen/Qwen2.5-7B"}
    });
    set(&runtime, value.clone()).await;
    let active = runtime.snapshot().unwrap();
    for (name, upstream) in [("openai/gpt-4o", "gpt-4o"), ("fast", "gpt-4o-mini"), ("Qwen", "Qwen/Qwen2.5-7B")] {
        let route = active.route(name).unwrap();
        assert_eq!((route.model.as_str(), route.scaled), (upstream, true));
    }
    let Err(unknown) = active.route("gpt-5") else { panic!("gpt-5 leads nowhere") };
    assert_eq!(unknown.available, ["openai/gpt-4o", "Qwen", "fast"]);
    assert_eq!(active.models()[0].owned_by, "openai");

    value["allow_any_model"] = json!(true);
    set(&runtime, value).await;
    let active = runtime.snapshot().unwrap();
    assert_eq!(active.route("gpt-5").unwrap().model, "gpt-5");
    assert_eq!(active.route("openai/gpt-5").unwrap().model, "gpt-5");
    assert!(active.route("groq/llama").is_err());
}

#[cfg(feature = "llama")]
#[tokio::test]
async fn local_models_stand_beside_a_remote_one_and_answer_plainly() {
    let house = House::new();
    let models = house.dir.path().join("models");
    fs::create_dir(&models).unwrap();
    fs::write(models.join("small.gguf"), "not really a model").unwrap();
    let runtime = house.start().await;
    set(&runtime, model("remote")).await;
    let active = runtime.snapshot().unwrap();
    let route = active.route("small").unwrap();
    assert!(!route.scaled);
    let entries = active.models();
    assert_eq!((entries[1].id.as_str(), entries[1].owned_by.as_str()), ("small", "itsd"));

    let error = refused(&runtime, json!({"provider": "llama", "model": "small"})).await;
    assert_eq!((error.code, error.param.as_str()), (SettingsCode::InvalidValue, "model"));
    assert!(error.message.contains("small.gguf"), "{}", error.message);
    let error = refused(&runtime, json!({"provider": "llama", "model": "smal"})).await;
    assert!(error.message.contains("there is: small"), "{}", error.message);
}

#[cfg(feature = "llama")]
#[tokio::test]
async fn the_model_that_ships_answers_when_nobody_has_said_anything_and_is_not_loaded_twice() {
    let house = House::new();
    let models = house.dir.path().join("models");
    std::os::unix::fs::symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("models"), &models).unwrap();
    let runtime = house.start().await;
    assert_eq!(runtime.readiness().await, Vec::<String>::new());
    let shipped = runtime.snapshot().unwrap();
    assert_eq!(shipped.revision, 0);
    let first = shipped.route("arithmetic-demo").unwrap();
    assert!(first.scaled);
    drop(shipped);

    set(&runtime, model("remote")).await;
    set(
        &runtime,
        json!({"provider": "llama", "model": "arithmetic-demo", "model_mapping": {"sums": "arithmetic-demo"}}),
    )
    .await;
    let active = runtime.snapshot().unwrap();
    for name in ["arithmetic-demo", "sums"] {
        let route = active.route(name).unwrap();
        assert!(route.scaled && Arc::ptr_eq(&route.generator, &first.generator), "{name}");
    }
    assert_eq!(active.models().iter().map(|model| model.id.as_str()).collect::<Vec<_>>(), ["arithmetic-demo", "sums"]);
}

#[cfg(feature = "llama")]
#[tokio::test]
async fn a_local_model_is_let_go_with_the_last_configuration_or_request_that_uses_it() {
    let house = House::new();
    let models = house.dir.path().join("models");
    fs::create_dir(&models).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/arithmetic-demo.gguf");
    for name in ["one.gguf", "other.gguf"] {
        std::os::unix::fs::symlink(&shipped, models.join(name)).unwrap();
    }
    let held =
        |name: &str, runtime: &Runtime| Arc::downgrade(&runtime.snapshot().unwrap().route(name).unwrap().generator);
    let runtime = house.start().await;
    set(&runtime, json!({"provider": "llama", "model": "one", "model_mapping": {"beside": "other"}})).await;
    let (one, other) = (held("one", &runtime), held("other", &runtime));
    assert!(one.strong_count() > 0 && other.strong_count() > 0);
    let active = runtime.snapshot().unwrap();
    assert!(Arc::ptr_eq(&active.route("other").unwrap().generator, &active.route("beside").unwrap().generator));
    let run = active.route("one").unwrap();
    drop(active);

    set(&runtime, json!({"provider": "llama", "model": "other"})).await;
    assert!(one.strong_count() > 0, "a request still uses it");
    let again = runtime.snapshot().unwrap().route("one").unwrap();
    assert!(!again.scaled && Arc::ptr_eq(&again.generator, &run.generator));
    drop((run, again));
    assert_eq!(one.strong_count(), 0);
    assert_eq!(held("one", &runtime).strong_count(), 0, "the name alone holds nothing");
    assert!(other.strong_count() > 0);
}

#[cfg(not(feature = "llama"))]
#[tokio::test]
async fn without_the_engine_the_provider_llama_says_how_this_was_built() {
    let house = House::new();
    let runtime = house.start().await;
    let error = refused(&runtime, json!({"provider": "llama", "model": "small"})).await;
    assert_eq!((error.code, error.param.as_str()), (SettingsCode::InvalidValue, "provider"));
    assert!(error.message.contains("--no-default-features"), "{}", error.message);
}

#[tokio::test]
async fn an_unusable_state_directory_is_told_before_anything_is_served() {
    let house = House::new();
    fs::create_dir(house.state()).unwrap();
    fs::write(house.state().join("itsd.sqlite3"), "garbage ".repeat(2000)).unwrap();
    let arguments = ServeArguments { state_dir: Some(house.state()), ..Default::default() };
    let settings = Settings::load(&arguments, &Environment::default()).unwrap();
    let Err(error) = Runtime::start(&settings, Environment::default()).await else { panic!("garbage was opened") };
    assert!(error.to_string().contains("itsd.sqlite3"), "{error}");
    assert!(Path::new(&house.state()).join("itsd.sqlite3").exists());
}
