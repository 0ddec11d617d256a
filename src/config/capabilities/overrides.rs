//! What a configuration says in place of the table: of all models that it calls, and of single ones.

use std::collections::BTreeMap;

use serde_json::Value;

use super::columns::{Capabilities, Cells, MEMBERS};
use crate::config::field::{self, SettingsError};

/// The member that holds the cells of single models, by the names that the provider knows them by.
pub const MODELS: &str = "models";

/// What a configuration says in place of single cells: its `extra_args.capabilities`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CapabilityOverrides {
    all: Cells,
    models: BTreeMap<String, Cells>,
}

impl CapabilityOverrides {
    /// Reads the object of this place, such as `extra_args.capabilities`. A column that is null is as the table has it;
    /// in `models`, as the object around it has it.
    ///
    /// # Errors
    ///
    /// What is no object, a column that there is not, and what cannot stand in one.
    pub fn parse(param: &str, value: &Value) -> Result<Self, SettingsError> {
        let mut overrides = Self::default();
        for (name, value) in field::object(param, value)? {
            let place = format!("{param}.{name}");
            match name.as_str() {
                MODELS if value.is_null() => {}
                MODELS => {
                    for (model, cells) in field::object(&place, value)? {
                        let cells = Cells::parse(&format!("{place}.{model}"), cells)?;
                        overrides.models.insert(model.clone(), cells);
                    }
                }
                _ if overrides.all.take(&place, name, value)? => {}
                _ => return Err(SettingsError::unknown_member(param, name, MEMBERS.iter().map(|member| member.name))),
            }
        }
        Ok(overrides)
    }

    /// The row of a model with these cells in place of its own. What is said of the model counts before what is said of
    /// all of them.
    pub(super) fn over(&self, model: &str, row: Capabilities) -> Capabilities {
        let row = self.all.over(row);
        self.models.get(model).map_or(row, |cells| cells.over(row))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::capabilities::{CapabilityTable, Support};
    use crate::config::field::SettingsCode;
    use crate::config::provider::ProviderName;

    #[test]
    fn what_is_said_of_one_model_is_said_of_no_other() {
        let said = json!({
            "seed": false, "n": false, "tools": null,
            "models": {"gpt-4o-mini": {"sampling": true, "n": true, "seed": null, "max_stop": 2}}
        });
        let said = CapabilityOverrides::parse("c", &said).unwrap();
        let table = CapabilityTable::new(ProviderName::OpenAi);
        let row = |model: &str| table.of(model);
        let over = |model: &str| table.clone().with(said.clone()).of(model);
        let expected = Capabilities { seed: Support::No, max_stop: Some(2), ..row("gpt-4o-mini") };
        assert_eq!(over("gpt-4o-mini"), expected, "null leaves what is said of all models");
        let expected = Capabilities { seed: Support::No, n: Support::No, ..row("o3") };
        assert_eq!((over("o3"), over("o3").sampling), (expected, Support::No));
        assert_eq!(over("gpt-4o-mini-2024-07-18").n, Support::No, "the name is a whole one");
    }

    #[test]
    fn a_cell_of_a_model_is_refused_by_its_place() {
        for (object, code, param, words) in [
            (json!({"models": {"a/b": {"n": 1}}}), SettingsCode::InvalidValue, "c.models.a/b.n", "true, false"),
            (json!({"models": {"m": {"sed": true}}}), SettingsCode::UnknownField, "c.models.m.sed", "`seed`"),
            (json!({"models": {"m": {"models": {}}}}), SettingsCode::UnknownField, "c.models.m.models", "unknown"),
            (json!({"models": {"m": null}}), SettingsCode::InvalidValue, "c.models.m", "object"),
            (json!({"models": []}), SettingsCode::InvalidValue, "c.models", "object"),
            (json!({"model": {}}), SettingsCode::UnknownField, "c.model", "`models`"),
        ] {
            let error = CapabilityOverrides::parse("c", &object).unwrap_err();
            assert_eq!((error.code, error.param.as_str()), (code, param), "{object}");
            assert!(error.message.contains(words), "{}", error.message);
        }
        let nothing = CapabilityOverrides::parse("c", &json!({"models": null})).unwrap();
        assert_eq!(nothing, CapabilityOverrides::default());
    }
}
