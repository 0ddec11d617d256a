//! The configuration that the environment makes where nobody has made one: exporting a key is enough to start.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::document::Document;
use super::environment::Environment;
use super::origin::{self, FieldOrigins};

/// Names a model: a GGUF file for the engine in this process, or the model that a vLLM server serves.
pub const MODEL_VARIABLE: &str = "VLLM_MODEL_PATH";

/// The keys that make a configuration, in the order in which they are looked at: variable, provider, and the
/// model that answers where a request's own name does not lead anywhere else.
const KEYS: [(&str, &str, &str); 3] = [
    ("OPENROUTER_API_KEY", "openrouter", "openai/gpt-4o-mini"),
    ("OPENAI_API_KEY", "openai", "gpt-4o-mini"),
    ("DEEPINFRA_API_KEY", "deepinfra", "meta-llama/Meta-Llama-3.1-8B-Instruct"),
];

/// A configuration made from the environment.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstConfiguration {
    /// The variable that makes it.
    pub variable: &'static str,
    pub document: Document,
    pub origins: FieldOrigins,
}

/// The configuration that the first of [`MODEL_VARIABLE`] and the usual keys makes. Any model name passes
/// through to a remote provider, and a key is only referred to, so that a new one needs no new configuration.
pub fn from_environment(environment: &Environment) -> Option<FirstConfiguration> {
    let (variable, document) = match environment.var(MODEL_VARIABLE) {
        Some(model) => (MODEL_VARIABLE, of_model(model.trim())),
        None => KEYS.into_iter().find(|(variable, ..)| environment.var(variable).is_some()).map(
            |(variable, provider, model)| {
                let api_key = format!("env:{variable}");
                let document =
                    json!({"provider": provider, "api_key": api_key, "model": model, "allow_any_model": true});
                (variable, document)
            },
        )?,
    };
    let Value::Object(document) = document else { unreachable!("each is written as an object") };
    let origins = origin::all(&document, &origin::environment(variable));
    Some(FirstConfiguration { variable, document, origins })
}

/// The variable that would make the configuration if nobody had made one, where the active one, of these fields
/// and origins, owes it nothing: neither its model nor its key. Whoever has just exported it may wonder.
pub fn unheeded(environment: &Environment, active: &Document, origins: &FieldOrigins) -> Option<&'static str> {
    let FirstConfiguration { variable, document, .. } = from_environment(environment)?;
    let is_origin = origins.values().any(|origin| *origin == origin::environment(variable));
    let text = Value::from(active.clone()).to_string();
    let is_named =
        [format!("\"env:{variable}\""), format!("\"${{{variable}}}\"")].iter().any(|name| text.contains(name));
    let is_same = ["provider", "model"].iter().all(|field| active.get(*field) == document.get(*field));
    (!is_origin && !is_named && !is_same).then_some(variable)
}

/// The directory of the GGUF file that the environment names, so that it is among those where models lie.
pub fn model_dir(environment: &Environment) -> Option<PathBuf> {
    let file = environment.var(MODEL_VARIABLE).map(str::trim).filter(|model| is_gguf(model))?;
    std::path::absolute(file).ok()?.parent().map(Path::to_owned)
}

fn of_model(model: &str) -> Value {
    if !is_gguf(model) {
        return json!({"provider": "vllm", "model": model, "allow_any_model": true});
    }
    let stem = Path::new(model).file_stem().and_then(|stem| stem.to_str()).unwrap_or(model);
    // Clients name the model as the variable does, or as GET /v1/models lists it.
    json!({"provider": "llama", "model": stem, "model_mapping": {model: stem}})
}

fn is_gguf(model: &str) -> bool {
    Path::new(model).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ActiveSettings;

    fn first(variables: &[(&str, &str)]) -> Option<FirstConfiguration> {
        from_environment(&Environment::from_pairs(variables.iter().copied()))
    }

    #[test]
    fn the_first_variable_that_is_set_makes_the_configuration_and_no_key_is_copied() {
        assert_eq!(first(&[("GROQ_API_KEY", "k"), ("OPENAI_API_KEY", " ")]), None);
        let mut variables = vec![("DEEPINFRA_API_KEY", "sk-d")];
        for (variable, value, provider) in [
            ("DEEPINFRA_API_KEY", "sk-d", "deepinfra"),
            ("OPENAI_API_KEY", "sk-a", "openai"),
            ("OPENROUTER_API_KEY", "sk-r", "openrouter"),
            ("VLLM_MODEL_PATH", "Qwen/Qwen2.5-7B-Instruct", "vllm"),
        ] {
            variables.push((variable, value));
            let made = first(&variables).unwrap();
            assert_eq!((made.variable, made.document["provider"].as_str()), (variable, Some(provider)));
            assert_eq!(made.document["allow_any_model"], true);
            assert_eq!(made.origins["provider"], format!("environment {variable}"));
            assert!(!Value::from(made.document.clone()).to_string().contains("sk-"));
            ActiveSettings::parse(&made.document).unwrap();
        }
    }

    #[test]
    fn a_variable_that_the_active_configuration_has_no_use_for_is_unheeded() {
        let unheeded = |variables: &[(&str, &str)], active: Value, origins: &[(&str, &str)]| {
            let origins = origins.iter().map(|(field, origin)| ((*field).to_owned(), (*origin).to_owned())).collect();
            let environment = Environment::from_pairs(variables.iter().copied());
            super::unheeded(&environment, active.as_object().unwrap(), &origins)
        };
        let key = [("OPENAI_API_KEY", "sk-a")];
        let llama = json!({"provider": "llama", "model": "m"});
        assert_eq!(unheeded(&[], llama.clone(), &[]), None);
        assert_eq!(unheeded(&key, llama.clone(), &[("model", "request")]), Some("OPENAI_API_KEY"));
        let both = [("OPENAI_API_KEY", "sk-a"), ("OPENROUTER_API_KEY", "sk-r")];
        assert_eq!(unheeded(&both, llama, &[]), Some("OPENROUTER_API_KEY"));
        for reference in ["env:OPENAI_API_KEY", "${OPENAI_API_KEY}"] {
            assert_eq!(unheeded(&key, json!({"model": "gpt-4o", "api_key": reference}), &[]), None);
            assert_eq!(unheeded(&key, json!({"model": "m", "extra_args": {"headers": {"X": reference}}}), &[]), None);
        }
        assert_eq!(unheeded(&key, json!({"model": "gpt-4o"}), &[("api_key", "environment OPENAI_API_KEY")]), None);
        let model = [("VLLM_MODEL_PATH", "/models/a.gguf")];
        assert_eq!(unheeded(&model, json!({"provider": "llama", "model": "a", "budget": 3}), &[]), None);
        assert_eq!(unheeded(&model, json!({"provider": "llama", "model": "b"}), &[]), Some("VLLM_MODEL_PATH"));
    }

    #[test]
    fn a_gguf_file_is_a_model_of_this_process_under_its_own_name_and_its_path() {
        let made = first(&[("VLLM_MODEL_PATH", "/models/Qwen3-4B.GGUF")]).unwrap();
        assert_eq!(
            Value::from(made.document.clone()),
            json!({"provider": "llama", "model": "Qwen3-4B", "model_mapping": {"/models/Qwen3-4B.GGUF": "Qwen3-4B"}})
        );
        ActiveSettings::parse(&made.document).unwrap();
        let dir = |path| model_dir(&Environment::from_pairs([(MODEL_VARIABLE, path)]));
        assert_eq!(dir("/models/Qwen3-4B.GGUF"), Some(PathBuf::from("/models")));
        assert_eq!(dir("a.gguf"), Some(std::env::current_dir().unwrap()));
        assert_eq!(dir("Qwen/Qwen2.5-7B-Instruct"), None);
    }
}
