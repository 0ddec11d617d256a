//! `n`: how many answers a request wants, and what its run must be for that.

use crate::algorithms::Plan;
use crate::config::run::{AlgorithmName, RunSettings};
use crate::http::error::ApiError;

/// Makes room for `n` answers: a budget that the request did not name rises to it.
///
/// # Errors
///
/// When the request names a smaller budget, or continuations of beams that make one, or an algorithm that makes one answer
/// of all its calls.
pub fn make_room(
    settings: &mut RunSettings,
    n: usize,
    names_budget: bool,
    names_continuations: bool,
) -> Result<(), ApiError> {
    if n == 1 {
        return Ok(());
    }
    let algorithm = settings.algorithm;
    if matches!(algorithm, AlgorithmName::Wait | AlgorithmName::MixtureOfN) {
        let message = format!("`n` is {n}, but `alg` `{}` makes one answer; leave `n` out", algorithm.as_str());
        return Err(ApiError::invalid_value("n", message));
    }
    if names_budget && settings.budget < n {
        let message = format!("`n` is {n}, more than a `budget` of {} has candidates; raise it", settings.budget);
        return Err(ApiError::invalid_value("n", message));
    }
    if settings.budget >= n {
        return Ok(());
    }
    if algorithm != AlgorithmName::BeamSearch {
        settings.budget = n;
        return Ok(());
    }
    let width = settings.search.beam_width;
    if let Some(per_beam) = settings.search.candidates_per_step.filter(|_| names_continuations) {
        let message = format!(
            "`n` is {n}, more than the {} paths of `beam_width` {width} times `candidates_per_step` {per_beam}; raise one of \
             the two",
            width.saturating_mul(per_beam)
        );
        return Err(ApiError::invalid_value("n", message));
    }
    settings.budget = n.next_multiple_of(width);
    // What is configured of it was for another budget.
    settings.search.candidates_per_step = None;
    Ok(())
}

/// Checks that the run as it was planned has so many answers to give; `warning` says what was decided against the
/// letter of the request.
///
/// # Errors
///
/// When it has not.
pub fn check(n: usize, plan: &Plan, warning: Option<&str>) -> Result<(), ApiError> {
    if plan.answers >= n {
        return Ok(());
    }
    let cause = match warning {
        Some(warning) => warning.to_owned(),
        None => format!("the run makes {}", plan.answers),
    };
    Err(ApiError::invalid_value("n", format!("there are no {n} answers for `n` to give: {cause}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::run::SearchSettings;

    #[test]
    fn the_budget_makes_room_unless_the_request_named_it() {
        use AlgorithmName::{BeamSearch, BestOfN, MixtureOfN, None as One, SelfConsistency, Wait};
        for (algorithm, budget, names_budget, n, expected) in [
            (SelfConsistency, 8, false, 1, Some((SelfConsistency, 8))),
            (SelfConsistency, 8, false, 3, Some((SelfConsistency, 8))),
            (SelfConsistency, 2, false, 3, Some((SelfConsistency, 3))),
            (BestOfN, 2, false, 1000, Some((BestOfN, 1000))),
            (BeamSearch, 8, false, 9, Some((BeamSearch, 12))),
            (BeamSearch, 8, false, 8, Some((BeamSearch, 8))),
            (SelfConsistency, 3, true, 3, Some((SelfConsistency, 3))),
            (SelfConsistency, 2, true, 3, None),
            (SelfConsistency, 1, true, 1, Some((SelfConsistency, 1))),
            (One, 8, false, 1, Some((One, 8))),
            (One, 2, false, 3, Some((One, 3))),
            (One, 2, true, 3, None),
            (Wait, 8, false, 1, Some((Wait, 8))),
            (Wait, 8, false, 2, None),
            (MixtureOfN, 8, true, 2, None),
        ] {
            let mut settings = RunSettings { algorithm, budget, ..RunSettings::default() };
            let made = make_room(&mut settings, n, names_budget, false);
            match (&made, expected) {
                (Ok(_), Some(expected)) => assert_eq!((settings.algorithm, settings.budget), expected, "n {n}"),
                (Err(error), None) => assert_eq!(error.param.as_deref(), Some("n")),
                _ => panic!("{algorithm:?} {budget} {names_budget} {n}: {made:?}"),
            }
        }
    }

    #[test]
    fn configured_continuations_make_room_and_named_ones_do_not() {
        let search = SearchSettings { beam_width: 4, candidates_per_step: Some(2), ..SearchSettings::default() };
        let settings = RunSettings { algorithm: AlgorithmName::BeamSearch, search, ..RunSettings::default() };
        let mut made = settings.clone();
        make_room(&mut made, 9, false, false).unwrap();
        assert_eq!((made.budget, made.search.candidates_per_step), (12, None));
        let mut untouched = settings.clone();
        make_room(&mut untouched, 8, false, false).unwrap();
        assert_eq!(untouched, settings);
        let error = make_room(&mut settings.clone(), 9, false, true).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("n"));
    }
}
