//! A local model that is loaded when it is first asked, and let go without holding up whoever lets it go.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use crate::completion::Prompt;
use crate::config::server::LlamaSettings;
use crate::failure::{Failure, FailureKind};
use crate::generator::{
    self, Branch, Delivery, Extension, Generator, Path, PathSupport, Phase, Run, SignalSupport, StepRule, TextAnswer,
    TextRequest, Until,
};
use crate::llama::{Engine, EngineStats, MAX_PATHS, ModelSpec};

/// A model that is loaded when it is first asked, and stays while any configuration or run holds it.
pub struct LocalModel {
    file: PathBuf,
    options: LlamaSettings,
    loaded: Mutex<Option<Loaded>>,
}

struct Loaded {
    engine: Engine,
    generator: Arc<dyn Generator>,
}

impl LocalModel {
    pub fn new(file: PathBuf, options: LlamaSettings) -> Self {
        Self { file, options, loaded: Mutex::default() }
    }

    /// Loads the model, or waits until someone else has. An engine that has ended by a defect is replaced.
    ///
    /// # Errors
    ///
    /// Why llama.cpp refused the file. The next call tries again.
    pub async fn load(&self) -> Result<Arc<dyn Generator>, Failure> {
        let mut loaded = self.loaded.lock().await;
        if let Some(Loaded { generator, .. }) = loaded.as_ref().filter(|loaded| loaded.engine.is_alive()) {
            return Ok(Arc::clone(generator));
        }
        let dead = loaded.take();
        if dead.is_some() {
            tracing::warn!(file = %self.file.display(), "the engine of this model has ended: it is loaded again");
        }
        let spec = ModelSpec {
            context_tokens: self.options.context_tokens,
            kept_tokens: self.options.kept_tokens,
            kept_bytes: (self.options.kept_mib as usize).saturating_mul(1 << 20),
            batch_tokens: self.options.batch_tokens,
            threads: self.options.threads,
            gpu_layers: self.options.gpu_layers,
            max_sequences: self.options.max_sequences,
            separate_reasoning: self.options.separate_reasoning,
            ..ModelSpec::new(&self.file)
        };
        // Reading gigabytes takes its time, and the threads here serve connections.
        let loading = tokio::task::spawn_blocking(move || {
            drop(dead);
            Engine::load(&spec)
        });
        match loading.await {
            Ok(Ok(engine)) => {
                let generator = generator::local(engine.clone());
                *loaded = Some(Loaded { engine, generator: Arc::clone(&generator) });
                Ok(generator)
            }
            Ok(Err(error)) => {
                let message = format!("the model {} cannot be loaded: {error}", self.file.display());
                Err(Failure::new(FailureKind::Unavailable, message))
            }
            Err(panic) => Err(Failure::new(FailureKind::Internal, format!("loading a model ended early: {panic}"))),
        }
    }
}

impl LocalModel {
    /// What its engine is doing, and how many cells its cache has; `None` where it is not loaded, or is being loaded.
    pub fn engine_stats(&self) -> Option<(EngineStats, u32)> {
        let loaded = self.loaded.try_lock().ok()?;
        let engine = &loaded.as_ref()?.engine;
        Some((engine.stats(), engine.info().cache_tokens))
    }
}

impl Drop for LocalModel {
    fn drop(&mut self) {
        // Freeing a model takes its time, and its last holder may be a request on a thread that serves connections.
        if let (Some(loaded), Ok(handle)) = (self.loaded.get_mut().take(), tokio::runtime::Handle::try_current()) {
            handle.spawn_blocking(move || drop(loaded));
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

    fn continue_texts(&self, request: TextRequest, run: Arc<Run>) -> BoxFuture<'_, Result<TextAnswer, Failure>> {
        async move { self.load().await?.continue_texts(request, run).await }.boxed()
    }

    fn branches(
        &self,
        prompt: Arc<Prompt>,
        rule: Arc<StepRule>,
        numbers: Range<usize>,
        phase: Phase,
        run: Arc<Run>,
    ) -> BoxFuture<'_, Result<Vec<Box<dyn Branch>>, Failure>> {
        async move { self.load().await?.branches(prompt, rule, numbers, phase, run).await }.boxed()
    }

    fn paths(&self, _: &str) -> Option<PathSupport> {
        Some(PathSupport { text_is_content: !self.options.separate_reasoning, most: MAX_PATHS })
    }

    fn stops_billing(&self, _: &str) -> bool {
        true
    }

    fn signals(&self, _: &str) -> SignalSupport {
        generator::LOCAL_SIGNALS
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use serde_json::value::RawValue;

    use super::*;
    use crate::completion::{Sampling, StepEvent};
    use crate::config::cli::ServeArguments;
    use crate::config::{Environment, Settings};

    #[tokio::test]
    async fn an_engine_that_has_ended_is_replaced() {
        let options = Settings::load(&ServeArguments::default(), &Environment::default()).unwrap().llama;
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/models/arithmetic-demo.gguf");
        let model = LocalModel::new(file.into(), options);
        let first = model.load().await.unwrap();
        assert!(Arc::ptr_eq(&first, &model.load().await.unwrap()), "an engine that lives is kept");
        model.loaded.lock().await.as_ref().unwrap().engine.end();
        let second = model.load().await.unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(model.loaded.lock().await.as_ref().unwrap().engine.is_alive());
    }

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
            signals: None,
            passthrough: std::collections::BTreeMap::new(),
        });
        let run = Arc::new(Run::new(None));
        let paths = generator::open(&prompt, 0..3, Phase::Generate, &run);
        let events: Vec<_> = model.extend(paths, Until::End, Delivery::Whole).await.collect().await;
        let candidates: Vec<_> = events.iter().map(|(candidate, _)| *candidate).collect();
        assert_eq!(candidates, [0, 1, 2]);
        for (_, event) in events {
            let StepEvent::Failed(failure) = event else { panic!("nothing can have been generated") };
            assert!(failure.message.contains("/nonexistent/a.gguf"), "{}", failure.message);
        }
    }
}
