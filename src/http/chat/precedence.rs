//! Who decides what a run does: the path wins over the header, the header over the body, the body over the
//! suffix of the model's name, and that over the configuration.

use actix_web::HttpRequest;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::config::fields;
use crate::config::run::{AlgorithmName, RewardName};
use crate::http::error::ApiError;
use crate::http::fields::Fields;
use crate::runtime::{ActiveConfig, Destination, Route};

use super::tts::Tts;

pub const BUDGET_HEADER: &str = "X-ITS-Budget";

/// What stands between a model's name and the number of rounds in which it checks itself.
const WAIT_SUFFIX: &str = "-wait-";
const MOST_WAIT_ROUNDS: u8 = 20;

/// What the path of a request says of its run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PathChoice {
    /// The algorithm, as the client wrote it.
    pub algorithm: Option<String>,
    scorer: Option<RewardName>,
}

impl PathChoice {
    /// Reads the segments `{algorithm}` and `{scorer}`, as far as the route has them.
    ///
    /// # Errors
    ///
    /// A name that nothing has, with those there are.
    pub fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let segment = |name| request.match_info().get(name);
        Self::parse(segment("algorithm"), segment("scorer"))
    }

    fn parse(algorithm: Option<&str>, scorer: Option<&str>) -> Result<Self, ApiError> {
        if let Some(algorithm) = algorithm {
            AlgorithmName::parse("algorithm", &Value::from(algorithm))?;
        }
        let scorer = scorer.map(|scorer| RewardName::parse("scorer", &Value::from(scorer))).transpose()?;
        Ok(Self { algorithm: algorithm.map(str::to_owned), scorer })
    }

    /// Puts what the path says over what the request says otherwise.
    ///
    /// # Errors
    ///
    /// When what is overruled is no algorithm or scorer.
    pub fn put_over(&self, overrides: &mut Fields) -> Result<(), ApiError> {
        if let Some(algorithm) = &self.algorithm {
            if let Some(overruled) = overrides.get("alg") {
                AlgorithmName::parse("alg", &value_of(overruled))?;
            }
            set(overrides, "alg", algorithm);
        }
        if let Some(scorer) = self.scorer {
            if let Some(overruled) = overrides.get("rm_name") {
                RewardName::parse("rm_name", &value_of(overruled))?;
            }
            set(overrides, "rm_name", &scorer.as_str());
        }
        Ok(())
    }

    /// The strategy of a run in the client's words, where the path or the `tts_*` family chose it.
    pub fn strategy(&self, tts: Option<&Tts>, algorithm: AlgorithmName) -> Option<String> {
        if let Some(named) = &self.algorithm {
            return Some(named.clone());
        }
        let is_run = |named: &&String| {
            AlgorithmName::parse("tts_strategy", &Value::from(named.as_str())).is_ok_and(|named| named == algorithm)
        };
        match tts?.strategy.as_ref().filter(is_run) {
            Some(named) => Some(named.clone()),
            // The service's own word, which is another name of ours too.
            None if algorithm == AlgorithmName::BestOfN => Some("offline_bon".to_owned()),
            None => Some(algorithm.as_str().replace('-', "_")),
        }
    }
}

/// Puts the budget of the header over the body's: for clients whose bodies are out of reach.
///
/// # Errors
///
/// When it is no whole number, or the body's, although it is overruled, is no budget.
pub fn put_header_over(request: &HttpRequest, overrides: &mut Fields) -> Result<(), ApiError> {
    let mut headers = request.headers().get_all(BUDGET_HEADER);
    let Some(header) = headers.next() else { return Ok(()) };
    if headers.next().is_some() {
        return Err(ApiError::invalid_value(BUDGET_HEADER, format!("`{BUDGET_HEADER}` is there twice; send it once")));
    }
    if let Some(overruled) = overrides.get("budget") {
        fields::find("budget").expect("budget is a field").integer("budget", &value_of(overruled))?;
    }
    match header.to_str().unwrap_or_default().trim().parse::<u32>() {
        Ok(budget) => {
            set(overrides, "budget", &budget);
            Ok(())
        }
        Err(_) => {
            Err(ApiError::invalid_value(BUDGET_HEADER, format!("`{BUDGET_HEADER}` must be a whole number such as 8")))
        }
    }
}

/// Where a model's name leads: as it stands where a model is called that, and else without a suffix `-wait-N`,
/// whose number of rounds is returned beside it.
///
/// # Errors
///
/// An unknown model, or more rounds than there may be.
pub fn route(
    active: &ActiveConfig,
    requested: &str,
    destination: Destination,
) -> Result<(Route, Option<u8>), ApiError> {
    let Some((model, rounds)) = split_wait_suffix(requested) else {
        return Ok((active.route_to(requested, destination)?, None));
    };
    // Where any name passes through, only those that are known are names as they stand.
    if active.models().iter().any(|model| model.id == requested) {
        return Ok((active.route_to(requested, destination)?, None));
    }
    match rounds.parse() {
        Ok(rounds) if rounds <= MOST_WAIT_ROUNDS => Ok((active.route_to(model, destination)?, Some(rounds))),
        _ => {
            let message = format!(
                "`model` ends in `{WAIT_SUFFIX}{rounds}`, but there are at most {MOST_WAIT_ROUNDS} rounds; ask for \
                 `{model}{WAIT_SUFFIX}{MOST_WAIT_ROUNDS}` or fewer"
            );
            Err(ApiError::invalid_value("model", message))
        }
    }
}

/// Puts what the suffix of the model's name says under what the request says otherwise. Returns what to warn of.
///
/// # Errors
///
/// When the algorithm that the request names is none.
pub fn put_suffix_under(rounds: u8, overrides: &mut Fields) -> Result<Option<String>, ApiError> {
    if let Some(named) = overrides.get("alg") {
        let value = serde_json::from_str(named.get()).unwrap_or_default();
        let algorithm = AlgorithmName::parse("alg", &value)?;
        if algorithm != AlgorithmName::Wait {
            let named = algorithm.as_str();
            return Ok(Some(format!("`{WAIT_SUFFIX}{rounds}` of the model has no effect beside `alg` `{named}`")));
        }
    }
    overrides.entry("alg".to_owned()).or_insert_with(|| raw(&AlgorithmName::Wait.as_str()));
    overrides.entry("wait_rounds".to_owned()).or_insert_with(|| raw(&rounds));
    Ok(None)
}

/// The name before the suffix and the digits of the suffix, where a name has one.
pub fn split_wait_suffix(name: &str) -> Option<(&str, &str)> {
    let (model, rounds) = name.rsplit_once(WAIT_SUFFIX)?;
    let is_number = !rounds.is_empty() && rounds.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !model.is_empty()).then_some((model, rounds))
}

fn value_of(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).expect("raw JSON is JSON")
}

fn set(overrides: &mut Fields, name: &str, value: &impl Serialize) {
    overrides.insert(name.to_owned(), raw(value));
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("words and numbers serialise")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use serde_json::json;

    use super::*;

    fn fields(request: Value) -> Fields {
        serde_json::from_value(request).unwrap()
    }

    fn shown(fields: &Fields) -> Value {
        serde_json::to_value(fields).unwrap()
    }

    #[test]
    fn the_path_wins_over_the_body() {
        for (algorithm, scorer, body, meant) in [
            (None, None, json!({"alg": "none"}), json!({"alg": "none"})),
            (Some("self_consistency"), None, json!({"alg": "none"}), json!({"alg": "self_consistency"})),
            (
                Some("best-of-n"),
                Some("top-k-confidence"),
                json!({"rm_name": "entropy", "budget": 3}),
                json!({"alg": "best-of-n", "rm_name": "top_k_confidence", "budget": 3}),
            ),
        ] {
            let mut overrides = fields(body);
            PathChoice::parse(algorithm, scorer).unwrap().put_over(&mut overrides).unwrap();
            assert_eq!(shown(&overrides), meant, "{algorithm:?} {scorer:?}");
        }
    }

    #[test]
    fn what_the_path_overrules_must_be_something_all_the_same() {
        for (body, param) in [(json!({"alg": "best"}), "alg"), (json!({"rm_name": 3}), "rm_name")] {
            let path = PathChoice::parse(Some("best-of-n"), Some("entropy")).unwrap();
            let error = path.put_over(&mut fields(body)).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param));
        }
    }

    #[test]
    fn a_run_is_told_in_the_words_that_chose_it() {
        let tts = |strategy: Option<&str>| Tts { strategy: strategy.map(str::to_owned), ..Tts::default() };
        for (path, strategy, algorithm, told) in [
            (None, Some("offline-bon"), AlgorithmName::BestOfN, "offline-bon"),
            (None, None, AlgorithmName::BestOfN, "offline_bon"),
            (None, None, AlgorithmName::SelfConsistency, "self_consistency"),
            // `alg` beside it won.
            (None, Some("offline_bon"), AlgorithmName::None, "none"),
            (Some("best-of-n"), Some("self_consistency"), AlgorithmName::BestOfN, "best-of-n"),
            (None, Some("beam_search"), AlgorithmName::BeamSearch, "beam_search"),
            (None, None, AlgorithmName::ParticleFiltering, "particle_filtering"),
        ] {
            let path = PathChoice::parse(path, None).unwrap();
            assert_eq!(path.strategy(Some(&tts(strategy)), algorithm).as_deref(), Some(told));
        }
        assert_eq!(PathChoice::default().strategy(None, AlgorithmName::BestOfN), None);
    }

    #[test]
    fn a_path_that_names_nothing_there_is_lists_what_there_is() {
        for (algorithm, scorer, param, code, told) in [
            ("self-consistensy", None, "algorithm", "invalid_value", "did you mean `self-consistency`?"),
            ("chat", None, "algorithm", "invalid_value", "`best-of-n`"),
            ("", None, "algorithm", "invalid_value", "`best-of-n`"),
            ("online_bon", None, "algorithm", "not_supported_yet", "`self-consistency`"),
            ("best-of-n", Some("entropi"), "scorer", "invalid_value", "did you mean `entropy`?"),
            ("best-of-n", Some("prm"), "scorer", "not_supported_yet", "`llm-judge`"),
        ] {
            let error = PathChoice::parse(Some(algorithm), scorer).unwrap_err();
            assert_eq!((error.param.as_deref(), error.code), (Some(param), Some(code)), "{algorithm} {scorer:?}");
            assert!(error.message.contains(told), "{}", error.message);
        }
    }

    #[test]
    fn the_header_wins_over_the_body_and_must_be_a_number() {
        let with = |value: &str| TestRequest::default().insert_header((BUDGET_HEADER, value)).to_http_request();
        let mut overrides = fields(json!({"budget": 3}));
        put_header_over(&TestRequest::default().to_http_request(), &mut overrides).unwrap();
        assert_eq!(shown(&overrides), json!({"budget": 3}));
        put_header_over(&with(" 5 "), &mut overrides).unwrap();
        assert_eq!(shown(&overrides), json!({"budget": 5}));
        for wrong in ["", "-1", "many", "2.5"] {
            let error = put_header_over(&with(wrong), &mut overrides).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(BUDGET_HEADER), "{wrong}");
        }
        let twice = TestRequest::default().append_header((BUDGET_HEADER, "2")).append_header((BUDGET_HEADER, "2"));
        let error = put_header_over(&twice.to_http_request(), &mut overrides).unwrap_err();
        assert!(error.message.contains("twice"), "{}", error.message);
    }

    #[test]
    fn only_a_number_at_the_end_is_a_suffix() {
        for (name, split) in [
            ("m-wait-6", Some(("m", "6"))),
            ("org/m-wait-0", Some(("org/m", "0"))),
            ("m-wait-20", Some(("m", "20"))),
            ("m-wait-2-wait-3", Some(("m-wait-2", "3"))),
            ("m-wait-", None),
            ("m-wait-x", None),
            ("m-wait-+3", None),
            ("m-wait-3b", None),
            ("-wait-3", None),
            ("m", None),
        ] {
            assert_eq!(split_wait_suffix(name), split, "{name}");
        }
    }

    #[test]
    fn the_body_wins_over_the_suffix() {
        for (body, meant, warns) in [
            (json!({}), json!({"alg": "wait", "wait_rounds": 6}), false),
            (json!({"alg": "wait", "wait_rounds": 2}), json!({"alg": "wait", "wait_rounds": 2}), false),
            (json!({"wait_rounds": 2}), json!({"alg": "wait", "wait_rounds": 2}), false),
            (json!({"alg": "self_consistency"}), json!({"alg": "self_consistency"}), true),
            (json!({"alg": "none"}), json!({"alg": "none"}), true),
        ] {
            let mut overrides = fields(body.clone());
            let warning = put_suffix_under(6, &mut overrides).unwrap();
            assert_eq!((shown(&overrides), warning.is_some()), (meant, warns), "{body}");
        }
        assert_eq!(
            put_suffix_under(6, &mut fields(json!({"alg": "weight"}))).unwrap_err().param.as_deref(),
            Some("alg")
        );
    }
}
