//! Groups of tokens that slide over a candidate.

/// The means of all groups of `width` neighbours, the first group first: of all values where there are no more than that.
/// Neither may be empty, and no value negative.
///
/// Values are cut into blocks as wide as a group, so that every group is the end of one block and the beginning of the
/// next (van Herk, 1992). Each sum is thus one of values that are added and never taken away again, which costs a few
/// additions for each value whatever the width, and has no cancellation as differences of running sums would.
pub(super) fn means(values: &[f64], width: usize) -> Vec<f64> {
    let width = width.min(values.len());
    let mut to_end_of_block = values.to_vec();
    let mut from_start_of_block = values.to_vec();
    for position in 1..values.len() {
        if !position.is_multiple_of(width) {
            from_start_of_block[position] += from_start_of_block[position - 1];
        }
        let position = values.len() - 1 - position;
        if !(position + 1).is_multiple_of(width) {
            to_end_of_block[position] += to_end_of_block[position + 1];
        }
    }
    let sum = |start: usize| match start % width {
        0 => to_end_of_block[start],
        _ => to_end_of_block[start] + from_start_of_block[start + width - 1],
    };
    (0..=values.len() - width).map(|start| sum(start) / width as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_is_the_mean_of_its_neighbours() {
        assert_eq!(means(&[1.0, 2.0, 6.0], 2), [1.5, 4.0]);
        assert_eq!(means(&[1.0, 2.0, 6.0], 1), [1.0, 2.0, 6.0]);
        assert_eq!(means(&[1.0, 2.0, 6.0], 3), [3.0]);
        assert_eq!(means(&[1.0, 2.0, 6.0], 99), [3.0]);
        assert_eq!(means(&[7.0], 1), [7.0]);
        let values: Vec<f64> = (0..23).map(|position: u32| f64::from(position * 7 % 11)).collect();
        for width in 1..=values.len() {
            let naive: Vec<f64> = values.windows(width).map(|group| group.iter().sum::<f64>() / width as f64).collect();
            assert_eq!(means(&values, width), naive, "{width}");
        }
    }

    #[test]
    fn what_is_great_leaves_no_trace_in_groups_that_do_not_hold_it() {
        let mut values = vec![1e-9; 300_000];
        values[1000] = 9999.0;
        let means = means(&values, 2048);
        let least = means.iter().copied().fold(f64::INFINITY, f64::min);
        assert!((least - 1e-9).abs() < 1e-20, "{least}");
        assert!((means.last().unwrap() - 1e-9).abs() < 1e-20);
    }
}
