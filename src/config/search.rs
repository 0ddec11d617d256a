//! The settings of a search step by step.

use serde_json::Value;

use super::choices::{FinalSelect, ParticleWeights, Resample, Resampling};
use super::field::{self, SettingsError};
use super::fields;

/// How a search goes about it. What a step is, and what scores it, stands beside it, since candidates are scored by
/// their steps too.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchSettings {
    /// Steps after which it ends, 1 to 10,000.
    pub max_steps: usize,
    /// Text that ends a path with the step that holds it.
    pub stop_token: Option<String>,
    pub temperature_switch: Option<TemperatureSwitch>,
    /// Paths that a beam search keeps after each step, 1 to 1000.
    pub beam_width: usize,
    /// Continuations of each of them, where they are said and do not follow from budget and width.
    pub candidates_per_step: Option<usize>,
    /// Whether a beam search keeps one of several paths of the same text.
    pub dedup: bool,
    pub resampling: Resampling,
    pub resample: Resample,
    pub weights: ParticleWeights,
    pub final_select: FinalSelect,
}

/// Another temperature for what stands between two texts.
#[derive(Debug, Clone, PartialEq)]
pub struct TemperatureSwitch {
    /// 0 to 2.
    pub temperature: f64,
    /// Not empty, and neither is `close`.
    pub open: String,
    pub close: String,
}

impl Default for SearchSettings {
    fn default() -> Self {
        Self {
            max_steps: 50,
            stop_token: None,
            temperature_switch: None,
            beam_width: 4,
            candidates_per_step: None,
            dedup: true,
            resampling: Resampling::Systematic,
            resample: Resample::Always,
            weights: ParticleWeights::Absolute,
            final_select: FinalSelect::Argmax,
        }
    }
}

impl SearchSettings {
    /// Sets a field, if it is one of these.
    pub(super) fn set(&mut self, name: &str, value: &Value) -> Result<bool, SettingsError> {
        let size = |value| fields::integer(name, value).map(|number| number as usize);
        match name {
            "max_steps" => self.max_steps = size(value)?,
            "stop_token" => self.stop_token = Some(field::token(name, value)?),
            "temperature_switch" => self.temperature_switch = Some(temperature_switch(value)?),
            "beam_width" => self.beam_width = size(value)?,
            "candidates_per_step" => self.candidates_per_step = Some(size(value)?),
            "dedup" => self.dedup = field::boolean(name, value)?,
            "resampling" => self.resampling = Resampling::parse(name, value)?,
            "resample" => self.resample = Resample::parse(name, value)?,
            "weights" => self.weights = ParticleWeights::parse(name, value)?,
            "final_select" => self.final_select = FinalSelect::parse(name, value)?,
            "iterations" => once(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn temperature_switch(value: &Value) -> Result<TemperatureSwitch, SettingsError> {
    const NAME: &str = "temperature_switch";
    const SHAPE: &str = "a list of a temperature and two texts, such as [1.2, \"<think>\", \"</think>\"]";
    let Value::Array(items) = value else { return Err(field::wrong_type(NAME, SHAPE, value)) };
    let [temperature, open, close] = &items[..] else {
        return Err(SettingsError::invalid(NAME, format!("`{NAME}` must be {SHAPE}, not of {} items", items.len())));
    };
    Ok(TemperatureSwitch {
        temperature: field::number(&format!("{NAME}[0]"), temperature, 0.0..=2.0)?,
        open: field::token(&format!("{NAME}[1]"), open)?,
        close: field::token(&format!("{NAME}[2]"), close)?,
    })
}

/// More than one iteration makes another algorithm of it, which is of a later version.
fn once(value: &Value) -> Result<(), SettingsError> {
    if value.as_f64().is_some_and(|iterations| iterations > 1.0) {
        let message = "`iterations` above 1 is of `alg` `particle-gibbs`, which is not supported yet by this version; \
                       leave it out";
        return Err(SettingsError::later("iterations", message));
    }
    fields::integer("iterations", value).map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::field::SettingsCode::{self, InvalidValue, NotSupportedYet};

    fn set(document: Value) -> Result<SearchSettings, SettingsError> {
        let mut settings = SearchSettings::default();
        for (name, value) in document.as_object().unwrap() {
            assert!(settings.set(name, value)?, "{name}");
        }
        Ok(settings)
    }

    #[test]
    fn every_field_of_a_search_is_read() {
        let settings = set(json!({
            "max_steps": 9, "stop_token": " ", "temperature_switch": [0, "<a>", "</a>"], "beam_width": 2,
            "candidates_per_step": 3, "dedup": false, "resampling": "residual", "resample": "ess",
            "weights": "incremental", "final_select": "sample", "iterations": 1.0
        }));
        let switch = TemperatureSwitch { temperature: 0.0, open: "<a>".to_owned(), close: "</a>".to_owned() };
        let expected = SearchSettings {
            max_steps: 9,
            stop_token: Some(" ".to_owned()),
            temperature_switch: Some(switch),
            beam_width: 2,
            candidates_per_step: Some(3),
            dedup: false,
            resampling: Resampling::Residual,
            resample: Resample::Ess,
            weights: ParticleWeights::Incremental,
            final_select: FinalSelect::Sample,
        };
        assert_eq!(settings, Ok(expected));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let table: [(Value, SettingsCode, &str); 14] = [
            (json!({"max_steps": 0}), InvalidValue, "max_steps"),
            (json!({"max_steps": 10_001}), InvalidValue, "max_steps"),
            (json!({"stop_token": ""}), InvalidValue, "stop_token"),
            (json!({"temperature_switch": 1}), InvalidValue, "temperature_switch"),
            (json!({"temperature_switch": [1, "a"]}), InvalidValue, "temperature_switch"),
            (json!({"temperature_switch": [2.1, "a", "b"]}), InvalidValue, "temperature_switch[0]"),
            (json!({"temperature_switch": [1, "a", ""]}), InvalidValue, "temperature_switch[2]"),
            (json!({"beam_width": 0}), InvalidValue, "beam_width"),
            (json!({"candidates_per_step": "2"}), InvalidValue, "candidates_per_step"),
            (json!({"dedup": 1}), InvalidValue, "dedup"),
            (json!({"resampling": "random"}), InvalidValue, "resampling"),
            (json!({"weights": "relative"}), InvalidValue, "weights"),
            (json!({"iterations": 0}), InvalidValue, "iterations"),
            (json!({"iterations": 2}), NotSupportedYet, "iterations"),
        ];
        for (document, code, param) in table {
            let error = set(document.clone()).unwrap_err();
            assert_eq!((error.code, error.param.as_str()), (code, param), "{document}: {}", error.message);
            assert!(error.message.contains(param), "{}", error.message);
        }
    }
}
