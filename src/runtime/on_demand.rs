//! A local model that is loaded when it is first asked, and let go without holding up whoever lets it go.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use crate::config::server::LlamaSettings;
use crate::failure::{Failure, FailureKind};
use crate::generator::{self, Delivery, Extension, Generator, Path, Until};
use crate::llama::{Engine, ModelSpec};

/// A model that is loaded when it is first asked, and stays while any configuration or run holds it.
pub struct LocalModel {
    file: PathBuf,
    options: LlamaSettings,
    loaded: OnceCell<Arc<dyn Generator>>,
}

impl LocalModel {
    pub fn new(file: PathBuf, options: LlamaSettings) -> Self {
        Self { file, options, loaded: OnceCell::new() }
    }

    /// Loads the model, or waits until someone else has.
    ///
    /// # Errors
    ///
    /// Why llama.cpp refused the file. The next call tries again.
    pub async fn load(&self) -> Result<&Arc<dyn Generator>, Failure> {
        let load = || async {
            let spec = ModelSpec {
                context_tokens: self.options.context_tokens,
                batch_tokens: self.options.batch_tokens,
                threads: self.options.threads,
                gpu_layers: self.options.gpu_layers,
                max_sequences: self.options.max_sequences,
                ..ModelSpec::new(&self.file)
            };
            // Reading gigabytes takes its time, and the threads here serve connections.
            let loading = tokio::task::spawn_blocking(move || Engine::load(&spec).map(generator::local));
            match loading.await {
                Ok(Ok(generator)) => Ok(generator),
                Ok(Err(error)) => {
                    let message = format!("the model {} cannot be loaded: {error}", self.file.display());
                    Err(Failure::new(FailureKind::Unavailable, message))
                }
                Err(panic) => Err(Failure::new(FailureKind::Internal, format!("loading a model ended early: {panic}"))),
            }
        };
        self.loaded.get_or_try_init(load).await
    }
}

impl Drop for LocalModel {
    fn drop(&mut self) {
        // Freeing a model takes its time, and its last holder may be a request on a thread that serves connections.
        if let (Some(generator), Ok(handle)) = (self.loaded.take(), tokio::runtime::Handle::try_current()) {
            handle.spawn_blocking(move || drop(generator));
        }
    }
}

impl Generator for LocalModel {
    fn extend(&self, paths: Vec<Path>, until: Until, delivery: Delivery) -> BoxFuture<'_, Box<dyn Extension>> {
        async move {
            match self.load().await {
                Ok(generator) => generator.extend(paths, until, delivery).await,
                Err(failure) => generator::refused(&paths, &failure),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use serde_json::value::RawValue;

    use super::*;
    use crate::completion::{Prompt, Sampling, StepEvent};
    use crate::config::cli::ServeArguments;
    use crate::config::{Environment, Settings};
    use crate::generator::Run;

    #[tokio::test]
    async fn a_model_that_cannot_be_loaded_fails_every_candidate_once() {
        let options = Settings::load(&ServeArguments::default(), &Environment::default()).unwrap().llama;
        let model = LocalModel::new("/nonexistent/a.gguf".into(), options);
        let prompt = Arc::new(Prompt {
            model: "a".to_owned(),
            messages: RawValue::from_string("[]".to_owned()).unwrap(),
            tools: Vec::new(),
            tool_choice: None,
            response_format: None,
            sampling: Sampling::default(),
            logprobs: None,
            passthrough: std::collections::BTreeMap::new(),
        });
        let run = Arc::new(Run::new(None));
        let paths = generator::open(&prompt, 3, &run);
        let events: Vec<_> = model.extend(paths, Until::End, Delivery::Whole).await.collect().await;
        let candidates: Vec<_> = events.iter().map(|(candidate, _)| *candidate).collect();
        assert_eq!(candidates, [0, 1, 2]);
        for (_, event) in events {
            let StepEvent::Failed(failure) = event else { panic!("nothing can have been generated") };
            assert!(failure.message.contains("/nonexistent/a.gguf"), "{}", failure.message);
        }
    }
}
