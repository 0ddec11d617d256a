//! Local models: found by name in the model directories, and the same one for all who name it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::config::SettingsError;
use crate::config::server::LlamaSettings;
use crate::config::shipped::SHIPPED_MODEL;
use crate::metrics::Engines;

use super::active::OpenLocal;
use super::on_demand::LocalModel;

/// The models in the model directories.
pub struct LocalModels {
    dirs: Vec<PathBuf>,
    options: LlamaSettings,
    known: Mutex<HashMap<FileIdentity, Weak<LocalModel>>>,
}

/// A file as it is now: one that is replaced is another model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FileIdentity {
    path: PathBuf,
    size_bytes: u64,
    modified: Option<SystemTime>,
}

impl LocalModels {
    pub fn new(dirs: Vec<PathBuf>, options: LlamaSettings) -> Self {
        for dir in dirs.iter().filter(|dir| !dir.is_dir()) {
            tracing::warn!(dir = %dir.display(), "a directory of `models.dirs` is not there");
        }
        Self { dirs, options, known: Mutex::default() }
    }

    /// The model of a name, or of a path of a GGUF file under one of the directories.
    ///
    /// # Errors
    ///
    /// When there is none, with the names there are. Nothing outside the directories is opened.
    pub fn find(&self, name: &str, param: &str) -> Result<Arc<LocalModel>, SettingsError> {
        match self.locate(name) {
            Some(path) => Ok(self.model(path)),
            None => {
                let names: Vec<_> = self.files().into_keys().collect();
                let there_is = match names.as_slice() {
                    [] => "there is none; add the directory of a GGUF file to `models.dirs`".to_owned(),
                    names => format!("there is: {}", names.join(", ")),
                };
                let hint = path_hint(name);
                Err(SettingsError::invalid(param, format!("`{param}` {name:?} is no local model{hint}; {there_is}")))
            }
        }
    }

    /// Every model that can be named, to be opened by the requests that do: the stems of the GGUF files
    /// directly in the directories.
    ///
    /// Only the model that ships is held from here on, and stays once it is loaded: it is small.
    pub fn names(self: &Arc<Self>) -> BTreeMap<String, OpenLocal> {
        let open = |name: &str, path: PathBuf| -> OpenLocal {
            if name == SHIPPED_MODEL {
                let held = self.model(path);
                return Box::new(move || held.clone());
            }
            let models = Arc::clone(self);
            Box::new(move || models.model(path.clone()))
        };
        self.files().into_iter().map(|(name, path)| (name.clone(), open(&name, path))).collect()
    }

    /// What the engines of all models that are loaded are doing together.
    pub fn engines(&self) -> Engines {
        let known: Vec<_> = self.known.lock().values().filter_map(Weak::upgrade).collect();
        let mut sum = Engines::default();
        for (stats, cells) in known.iter().filter_map(|model| model.engine_stats()) {
            sum.loaded += 1;
            sum.waiting += stats.waiting_jobs;
            sum.sequences += stats.live_sequences;
            sum.batch_tokens += stats.batch_tokens;
            sum.tokens_per_second += stats.tokens_per_second;
            sum.used_cells += stats.reserved_tokens;
            sum.kept_cells += stats.kept_tokens;
            sum.shelved_bytes += stats.shelved_bytes;
            sum.cells += u64::from(cells);
            sum.prompt_tokens += stats.prompt_tokens;
            sum.shared_tokens += stats.shared_tokens;
            sum.generated_tokens += stats.generated_tokens;
            sum.busy_seconds += stats.busy.as_secs_f64();
        }
        sum
    }

    fn files(&self) -> BTreeMap<String, PathBuf> {
        let mut files = BTreeMap::new();
        for dir in &self.dirs {
            let Ok(entries) = fs::read_dir(dir) else { continue };
            for path in entries.flatten().map(|entry| entry.path()).filter(|path| is_gguf(path) && path.is_file()) {
                if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) {
                    files.entry(stem.to_owned()).or_insert(path);
                }
            }
        }
        files
    }

    fn locate(&self, name: &str) -> Option<PathBuf> {
        let given = Path::new(name);
        if given.is_absolute() {
            let path = given.canonicalize().ok().filter(|path| is_gguf(given) && path.is_file())?;
            return self
                .dirs
                .iter()
                .filter_map(|dir| dir.canonicalize().ok())
                .any(|dir| path.starts_with(dir))
                .then_some(path);
        }
        // Anything but plain components could lead out of the directory. Links that the operator has put
        // into it may.
        if name.is_empty() || !given.components().all(|part| matches!(part, Component::Normal(_))) {
            return None;
        }
        let under_a_directory = || {
            let file = if is_gguf(given) { given.to_owned() } else { PathBuf::from(format!("{name}.gguf")) };
            self.dirs.iter().map(|dir| dir.join(&file)).find(|path| path.is_file())
        };
        self.files().remove(name).or_else(under_a_directory)
    }

    fn model(&self, path: PathBuf) -> Arc<LocalModel> {
        let metadata = fs::metadata(&path).ok();
        let identity = FileIdentity {
            size_bytes: metadata.as_ref().map_or(0, fs::Metadata::len),
            modified: metadata.and_then(|metadata| metadata.modified().ok()),
            path,
        };
        let mut known = self.known.lock();
        if let Some(model) = known.get(&identity).and_then(Weak::upgrade) {
            return model;
        }
        known.retain(|_, model| model.strong_count() > 0);
        let model = Arc::new(LocalModel::new(identity.path.clone(), self.options.clone()));
        known.insert(identity, Arc::downgrade(&model));
        model
    }
}

/// What to do instead, for a name that is meant as a path.
fn path_hint(name: &str) -> String {
    let path = Path::new(name);
    if !is_gguf(path) && !path.is_absolute() {
        return String::new();
    }
    // Of a path that is no file's, the last part is as good a name as any.
    match path.file_stem().and_then(|stem| stem.to_str()) {
        Some(stem) => format!(": models are named by their file, here {stem:?}, in a directory of `models.dirs`"),
        None => String::new(),
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::cli::ServeArguments;
    use crate::config::{Environment, Settings};

    fn models(dirs: &[&Path]) -> Arc<LocalModels> {
        let settings = Settings::load(&ServeArguments::default(), &Environment::default()).unwrap();
        Arc::new(LocalModels::new(dirs.iter().map(|dir| dir.to_path_buf()).collect(), settings.llama))
    }

    #[test]
    fn a_model_is_found_by_name_or_path_and_nothing_outside_the_directories_is() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("models");
        fs::create_dir_all(dir.join("sub")).unwrap();
        for file in ["models/a.gguf", "models/sub/b.gguf", "models/v1.5.GGUF", "models/notes.txt", "secret.gguf"] {
            fs::write(root.path().join(file), "x").unwrap();
        }
        let local = models(&[Path::new("/nonexistent"), &dir]);
        let inside = dir.join("a.gguf").display().to_string();
        let outside = root.path().join("secret.gguf").display().to_string();
        let around = dir.join("../secret.gguf").display().to_string();
        for name in ["a", "a.gguf", "sub/b.gguf", "sub/b", "v1.5", "v1.5.GGUF", inside.as_str()] {
            assert!(local.find(name, "model").is_ok(), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "../secret",
            "../secret.gguf",
            "sub/../a",
            "notes.txt",
            "b",
            &outside,
            &around,
            "/etc/passwd",
        ] {
            let Err(error) = local.find(name, "model") else { panic!("{name} was found") };
            assert!(error.message.contains("there is: a, v1.5"), "{}", error.message);
        }
        assert_eq!(local.names().keys().collect::<Vec<_>>(), ["a", "v1.5"]);
    }

    #[test]
    fn who_names_a_path_is_told_of_the_directories_and_of_the_name() {
        let local = models(&[]);
        let told = |name: &str| local.find(name, "model").err().unwrap().message;
        for name in ["/models/x.gguf", "x.GGUF", "models/x.gguf"] {
            let message = told(name);
            assert!(message.contains("here \"x\"") && message.contains("`models.dirs`"), "{message}");
        }
        assert_eq!(
            told("x"),
            "`model` \"x\" is no local model; there is none; add the directory of a GGUF file to `models.dirs`"
        );
    }

    #[test]
    fn a_model_is_the_same_while_it_is_held_and_another_once_its_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.gguf");
        fs::write(&file, "x").unwrap();
        let local = models(&[dir.path()]);
        let held = local.find("a", "model").unwrap();
        assert!(Arc::ptr_eq(&held, &local.find("a", "model").unwrap()));
        fs::write(&file, "longer").unwrap();
        assert!(!Arc::ptr_eq(&held, &local.find("a", "model").unwrap()));
    }
}
