//! The weights of particles: from scores to logits, and from logarithms to shares.

/// Scores are kept this far from 0 and 1, where their logits have no end.
const CLIP: f64 = 1e-7;

/// g = ln(r / (1 − r)) of a score r from 0 to 1, which is clipped to 10⁻⁷ and 1 − 10⁻⁷: from −16.2 to 16.2. A score that is
/// no number, and one that is not there, count as the lowest.
pub(super) fn logit(score: Option<f64>) -> f64 {
    let score = score.filter(|score| !score.is_nan()).unwrap_or(0.0).clamp(CLIP, 1.0 - CLIP);
    (score / (1.0 - score)).ln()
}

/// The shares of these log-weights, which sum to 1: w_i = exp(l_i) / Σ exp(l_j). What is no number weighs nothing. Where
/// nothing weighs anything, all weigh the same.
pub(super) fn shares(log_weights: &[f64]) -> Vec<f64> {
    let greatest = log_weights.iter().copied().filter(|weight| !weight.is_nan()).fold(f64::NEG_INFINITY, f64::max);
    let weight = |log: &f64| match *log {
        log if log == greatest => 1.0,
        log if log.is_nan() || greatest == f64::INFINITY => 0.0,
        log => (log - greatest).exp(),
    };
    let weights: Vec<f64> = match greatest {
        f64::NEG_INFINITY => vec![1.0; log_weights.len()],
        _ => log_weights.iter().map(weight).collect(),
    };
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// 1 / Σ w² of shares: as many as they are where all are the same, 1 where one has it all, and 0 of none.
pub(super) fn effective_sample_size(shares: &[f64]) -> f64 {
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares > 0.0 { 1.0 / squares } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (one, other) in found.iter().zip(expected) {
            assert!((one - other).abs() < 1e-12, "{found:?}, not {expected:?}");
        }
    }

    #[test]
    fn a_logit_is_clipped_before_it_has_no_end() {
        let (low, high) = (logit(Some(0.0)), logit(Some(1.0)));
        assert!((low + 16.118_095_550_958_32).abs() < 1e-6 && (low + high).abs() < 1e-6, "{low} {high}");
        assert_eq!(logit(Some(0.5)), 0.0);
        assert!((logit(Some(0.8)) - 4.0_f64.ln()).abs() < 1e-12);
        for nothing in [None, Some(f64::NAN), Some(-1.0), Some(1e-9)] {
            assert_eq!(logit(nothing), low, "{nothing:?}");
        }
        assert_eq!(logit(Some(f64::INFINITY)), high);
    }

    #[test]
    fn shares_are_a_softmax_whatever_the_size_of_the_weights() {
        let ln = f64::ln;
        assert_near(&shares(&[ln(1.0), ln(2.0), ln(5.0)]), &[0.125, 0.25, 0.625]);
        assert_near(&shares(&[1e5, 1e5 + ln(3.0)]), &[0.25, 0.75]);
        assert_near(&shares(&[-1e5, -1e5 - 800.0]), &[1.0, 0.0]);
        assert_near(&shares(&[7.0]), &[1.0]);
        assert!(shares(&[]).is_empty());
    }

    #[test]
    fn what_weighs_nothing_or_is_no_number_has_no_share_unless_nothing_has() {
        let (nothing, all) = (f64::NEG_INFINITY, f64::INFINITY);
        assert_near(&shares(&[nothing, 0.0, f64::NAN, 0.0]), &[0.0, 0.5, 0.0, 0.5]);
        assert_near(&shares(&[all, 0.0, all]), &[0.5, 0.0, 0.5]);
        assert_near(&shares(&[nothing, nothing]), &[0.5, 0.5]);
        assert_near(&shares(&[f64::NAN, f64::NAN]), &[0.5, 0.5]);
    }

    #[test]
    fn the_effective_sample_size_tells_how_many_share_the_weight() {
        assert_eq!(effective_sample_size(&[0.25; 4]), 4.0);
        assert_eq!(effective_sample_size(&[0.0, 1.0, 0.0]), 1.0);
        assert!((effective_sample_size(&[0.5, 0.25, 0.25]) - 8.0 / 3.0).abs() < 1e-12);
        assert_eq!(effective_sample_size(&[]), 0.0);
    }
}
