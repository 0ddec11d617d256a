//! Whether what a configuration asks for is something that its models can do, as far as that is known.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::completion::{Prompt, Sampling};
use crate::config::SettingsError;
use crate::config::calls::UseN;
use crate::config::capabilities::Support;
use crate::config::run::Wave;
use crate::failure::Failure;

use super::active::{ActiveConfig, Target};

impl ActiveConfig {
    /// What of the configuration will be done in another way than it says, or has no effect.
    ///
    /// # Errors
    ///
    /// What the active model or the judge cannot do and nothing can stand for, by the field to change.
    pub(super) fn check_capabilities(&self, use_n: UseN) -> Result<Vec<String>, SettingsError> {
        let refused = |failure: Failure| {
            let param = failure.param.clone().unwrap_or_else(|| "model".to_owned());
            SettingsError::invalid(param, failure.message)
        };
        let names = &self.names;
        let mut warnings = self.fit(&names.active, &names.model, use_n).map_err(refused)?;
        // Requests may say otherwise, so that such a name is no reason to refuse all of the configuration.
        for (name, target) in names.mapped.iter().filter(|(_, target)| target.model != names.active.model) {
            let told = self.fit(target, name, use_n).map_err(|failure| failure.message);
            match told.and_then(|told| self.check_run(target).map(|()| told).map_err(|error| error.message)) {
                Ok(told) => warnings.extend(told.into_iter().map(|warning| format!("`{name}`: {warning}"))),
                Err(why) => {
                    warnings.push(format!("`{name}`: requests that leave it to the configuration are refused: {why}"));
                }
            }
        }
        if self.run.is_judged()
            && let Some(judge) = &self.judge
        {
            let sampling = Sampling { temperature: Some(self.run.judge.temperature), ..Sampling::default() };
            let told = judge.generator.fit(&mut prompt(&judge.model, sampling)).map_err(refused)?;
            warnings.extend(told.into_iter().map(|warning| format!("the judge: {warning}")));
        }
        Ok(warnings)
    }

    /// The same of one of the models, which requests know by this name.
    fn fit(&self, target: &Target, name: &str, use_n: UseN) -> Result<Vec<String>, Failure> {
        let run = &self.run;
        // What every request gets that names nothing of its own.
        let sampling = Sampling {
            temperature: run.temperature,
            top_p: run.top_p,
            top_k: run.top_k,
            max_tokens: run.max_tokens,
            seed: run.seed,
            stop: run.stop.clone(),
            ..Sampling::default()
        };
        let mut warnings = target.generator.fit(&mut prompt(&target.model, sampling))?;
        let Some(row) = self.names.capabilities.as_ref().map(|capabilities| capabilities.of(&target.model)) else {
            return Ok(warnings);
        };
        if use_n == UseN::Always && row.n == Support::No {
            warnings.push(format!(
                "`use_n` is `always`, but `{name}` is known to make one choice of a call: what is missing is asked for again"
            ));
        }
        if run.wave == Wave::Prime && row.prompt_caching == Support::No {
            warnings.push(format!("`wave` `prime` only takes time: the prompts of `{name}` are not read from a cache"));
        }
        Ok(warnings)
    }
}

/// A question of which nothing matters but how it is sampled.
fn prompt(model: &str, sampling: Sampling) -> Prompt {
    // Without a question some providers have nothing to write.
    let messages = RawValue::from_string(r#"[{"role":"user","content":"?"}]"#.to_owned()).expect("a list is JSON");
    Prompt {
        model: model.to_owned(),
        messages,
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        sampling,
        logprobs: None,
        signals: None,
        passthrough: BTreeMap::new(),
    }
}
