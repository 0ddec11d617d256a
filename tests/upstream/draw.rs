//! Random numbers that follow from a few given ones, so that whatever is drawn can be drawn again.

/// A stream of numbers: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// The stream that belongs to these numbers, in this order.
    pub fn new(of: &[u64]) -> Self {
        let mut draw = Self(0);
        for number in of {
            draw.0 = draw.next().wrapping_add(*number);
        }
        draw
    }

    /// The stream that belongs to a seed and a text.
    pub fn of_text(seed: u64, text: &[u8]) -> Self {
        // FNV-1a: short texts that differ in one byte must part ways, which is all that is asked of it.
        let hash = text
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        Self::new(&[seed, hash])
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` up to, and without, `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of them.
    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[(self.next() % of.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_repeat_differ_by_what_they_follow_from_and_fill_their_range() {
        assert_eq!(Draw::new(&[1, 2]).next(), Draw::new(&[1, 2]).next());
        assert_ne!(Draw::new(&[1, 2]).next(), Draw::new(&[2, 1]).next());
        assert_ne!(Draw::of_text(1, b"a").next(), Draw::of_text(1, b"b").next());
        let mut tenths = [0; 10];
        for number in 0..10_000 {
            tenths[Draw::new(&[5, number]).between(0.0, 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }
}
