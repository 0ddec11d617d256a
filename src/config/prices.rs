//! What tokens cost, by model.

use std::collections::BTreeMap;

use serde_json::Value;

use super::field::{self, SettingsError};
use super::fields::PRICE;
use crate::completion::Usage;

/// One model's prices in US dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    pub prompt: f64,
    /// Of prompt tokens that the provider read from its cache.
    pub cached_prompt: f64,
    /// Of prompt tokens that it wrote to it.
    pub cache_write_prompt: f64,
    pub completion: f64,
}

/// Prices by the model's public name or the provider's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prices(BTreeMap<String, Price>);

impl Price {
    /// US dollars for these tokens. Calls of unknown usage cost nothing here: the sum is a lower bound where there
    /// are any.
    pub fn cost_usd(&self, usage: &Usage) -> f64 {
        // A provider might count more cached tokens than prompt tokens.
        let cached = usage.cached_tokens.min(usage.prompt_tokens);
        let written = usage.cache_write_tokens.min(usage.prompt_tokens - cached);
        let fresh = usage.prompt_tokens - cached - written;
        let sum = fresh as f64 * self.prompt
            + cached as f64 * self.cached_prompt
            + written as f64 * self.cache_write_prompt
            + usage.completion_tokens as f64 * self.completion;
        sum / 1e6
    }
}

impl Prices {
    /// Reads the field `prices`.
    ///
    /// # Errors
    ///
    /// Anything that is not an object of objects with prices of 0 or more.
    pub fn parse(value: &Value) -> Result<Self, SettingsError> {
        let mut prices = BTreeMap::new();
        for (model, value) in field::object("prices", value)? {
            let param = format!("prices.{model}");
            let (mut prompt, mut cached_prompt, mut cache_write_prompt, mut completion) = (0.0, None, None, 0.0);
            for (name, value) in field::object(&param, value)? {
                let Some(member) = PRICE.iter().find(|member| member.name == name) else {
                    return Err(SettingsError::unknown_member(&param, name, PRICE.iter().map(|member| member.name)));
                };
                if value.is_null() {
                    continue;
                }
                let price = member.number(&format!("{param}.{name}"), value)?;
                match member.name {
                    "prompt" => prompt = price,
                    "cached_prompt" => cached_prompt = Some(price),
                    "cache_write_prompt" => cache_write_prompt = Some(price),
                    _ => completion = price,
                }
            }
            let [cached_prompt, cache_write_prompt] =
                [cached_prompt, cache_write_prompt].map(|price| price.unwrap_or(prompt));
            prices.insert(model.clone(), Price { prompt, cached_prompt, cache_write_prompt, completion });
        }
        Ok(Self(prices))
    }

    /// The price of a model, by the first of its names that has one.
    pub fn of<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<Price> {
        names.into_iter().find_map(|name| self.0.get(name)).copied()
    }

    /// Holds `limits.max_cost_usd` to what it needs: the price of a model that a run calls, by any of its names.
    ///
    /// # Errors
    ///
    /// When there is none, so that the limit would never be reached.
    pub fn require(&self, names: &[&str]) -> Result<(), SettingsError> {
        if self.of(names.iter().copied()).is_some() {
            return Ok(());
        }
        let model = names.first().copied().unwrap_or_default();
        Err(SettingsError::invalid(
            "limits.max_cost_usd",
            format!("`limits.max_cost_usd` needs the price of `{model}`: give it in `prices`, 0 if it costs nothing"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cached_tokens_have_their_own_price_and_cost_like_others_without_one() {
        let prices = Prices::parse(&json!({
            "a": {"prompt": 2.0, "cached_prompt": 0.5, "completion": 8}, "b": {"prompt": 2.0, "cached_prompt": null}
        }))
        .unwrap();
        let usage =
            Usage { prompt_tokens: 1_000_000, cached_tokens: 400_000, completion_tokens: 500_000, ..Usage::default() };
        // 0.6 × 2 + 0.4 × 0.5 + 0.5 × 8
        assert!((prices.of(["x", "a"]).unwrap().cost_usd(&usage) - 5.4).abs() < 1e-12);
        assert!((prices.of(["b"]).unwrap().cost_usd(&usage) - 2.0).abs() < 1e-12);
        let written = Usage { cache_write_tokens: 200_000, ..usage };
        let dear =
            Prices::parse(&json!({"a": {"prompt": 2.0, "cached_prompt": 0.5, "cache_write_prompt": 2.5}})).unwrap();
        // 0.4 × 2 + 0.4 × 0.5 + 0.2 × 2.5
        assert!((dear.of(["a"]).unwrap().cost_usd(&written) - 1.5).abs() < 1e-12);
        assert!((prices.of(["a"]).unwrap().cost_usd(&written) - 5.4).abs() < 1e-12, "as others without a price");
        assert_eq!(prices.of(["x"]), None);
        assert_eq!(prices.of(["a"]).unwrap().cost_usd(&Usage::default()), 0.0);
    }

    #[test]
    fn a_limit_of_cost_needs_a_price_by_any_name_of_the_model() {
        let prices = Prices::parse(&json!({"upstream-name": {"prompt": 0}})).unwrap();
        assert!(prices.require(&["public-name", "upstream-name"]).is_ok(), "free is a price");
        let error = prices.require(&["public-name"]).unwrap_err();
        assert_eq!(error.param, "limits.max_cost_usd");
        assert!(error.message.contains("`public-name`") && error.message.contains("`prices`"), "{}", error.message);
    }

    #[test]
    fn more_cached_than_prompt_tokens_cost_no_less_than_nothing() {
        let price = Price { prompt: 1.0, cached_prompt: 0.0, cache_write_prompt: 2.0, completion: 0.0 };
        let usage = Usage { prompt_tokens: 5, cached_tokens: 9, cache_write_tokens: 9, ..Usage::default() };
        assert_eq!(price.cost_usd(&usage), 0.0);
    }

    #[test]
    fn what_is_no_price_is_refused_by_its_place() {
        for (value, param) in [
            (json!(5), "prices"),
            (json!({"a": 5}), "prices.a"),
            (json!({"a": {"prompt": -1}}), "prices.a.prompt"),
            (json!({"a": {"promt": 1}}), "prices.a.promt"),
        ] {
            assert_eq!(Prices::parse(&value).unwrap_err().param, param);
        }
    }
}
