//! A local model that is loaded when it is first asked, and let go without holding up whoever lets it go.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::sync::OnceCell;

use crate::completion::StepEvent;
use crate::config::server::LlamaSettings;
use crate::failure::{Failure, FailureKind};
use crate::generator::{self, Delivery, Extension, Generator, Path, Until};
use crate::llama::{Engine, ModelSpec};

/// A model that is loaded when it is first asked, and stays while any configuration or run holds it.
pub struct LocalModel(Arc<Shared>);

struct Shared {
    file: PathBuf,
    options: LlamaSettings,
    loaded: OnceCell<Arc<dyn Generator>>,
}

impl LocalModel {
    pub fn new(file: PathBuf, options: LlamaSettings) -> Self {
        Self(Arc::new(Shared { file, options, loaded: OnceCell::new() }))
    }

    /// Loads the model, or waits until someone else has.
    ///
    /// # Errors
    ///
    /// Why llama.cpp refused the file. The next call tries again.
    pub async fn load(&self) -> Result<(), Failure> {
        self.0.load().await.map(|_| ())
    }
}

impl Shared {
    async fn load(&self) -> Result<Arc<dyn Generator>, Failure> {
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
        self.loaded.get_or_try_init(load).await.cloned()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Freeing them takes its time too, and the last holder may be a request.
        if let (Some(generator), Ok(handle)) = (self.loaded.take(), tokio::runtime::Handle::try_current()) {
            handle.spawn_blocking(move || drop(generator));
        }
    }
}

impl Generator for LocalModel {
    fn extend(&self, paths: Vec<Path>, until: Until, delivery: Delivery) -> Box<dyn Extension> {
        if let Some(generator) = self.0.loaded.get() {
            return generator.extend(paths, until, delivery);
        }
        let shared = Arc::clone(&self.0);
        let begin = async move {
            match shared.load().await {
                Ok(generator) => OnDemand::Extending(generator.extend(paths, until, delivery)),
                Err(failure) => {
                    let failed = |path: &Path| (path.candidate, StepEvent::Failed(failure.clone()));
                    OnDemand::Refused(paths.iter().rev().map(failed).collect())
                }
            }
        };
        Box::new(OnDemand::Loading(begin.boxed()))
    }
}

/// An extension that begins once its model is loaded.
enum OnDemand {
    Loading(BoxFuture<'static, OnDemand>),
    Extending(Box<dyn Extension>),
    /// The model cannot be loaded: what each path is still to be told, the last one first.
    Refused(Vec<(usize, StepEvent)>),
}

impl Stream for OnDemand {
    type Item = (usize, StepEvent);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut *self {
                Self::Loading(begin) => *self = ready!(begin.poll_unpin(context)),
                Self::Extending(extension) => return extension.poll_next_unpin(context),
                Self::Refused(failures) => return Poll::Ready(failures.pop()),
            }
        }
    }
}

impl Extension for OnDemand {
    fn cancel(self: Box<Self>) -> BoxFuture<'static, ()> {
        match *self {
            Self::Extending(extension) => extension.cancel(),
            // Nothing was asked for yet.
            Self::Loading(_) | Self::Refused(_) => std::future::ready(()).boxed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::completion::{Prompt, Sampling};
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
        let events: Vec<_> = model.extend(paths, Until::End, Delivery::Whole).collect().await;
        let candidates: Vec<_> = events.iter().map(|(candidate, _)| *candidate).collect();
        assert_eq!(candidates, [0, 1, 2]);
        for (_, event) in events {
            let StepEvent::Failed(failure) = event else { panic!("nothing can have been generated") };
            assert!(failure.message.contains("/nonexistent/a.gguf"), "{}", failure.message);
        }
    }
}
