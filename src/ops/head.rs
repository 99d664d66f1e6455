//! `score[r] = prod_f p_f[r]`: one probability, or for a composed task the product along the funnel, in f32.

use super::Span;

/// The scores of one task.
#[derive(Debug)]
pub struct Head {
    /// Values of width 1, multiplied in order.
    pub factors: Vec<Span>,
    /// Written, and counted, where the network gives a value that is not finite.
    pub fallback: f32,
}

impl Head {
    /// Gives one score per row to `write`; returns how many were not finite.
    pub fn run(&self, memory: &[f32], rows: usize, mut write: impl FnMut(usize, f32)) -> u64 {
        let mut replaced = 0;
        for row in 0..rows {
            let mut factors = self.factors.iter().map(|factor| memory[factor.offset + row * factor.stride]);
            let first = factors.next().unwrap_or(f32::NAN);
            let score = factors.fold(first, |product, factor| product * factor);
            if score.is_finite() {
                write(row, score);
            } else {
                replaced += 1;
                write(row, self.fallback);
            }
        }
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_multiply_in_order_and_what_is_not_finite_falls_back() {
        let memory = [0.5, 0.25, f32::NAN, 0.5];
        let span = |offset, stride| Span { offset, stride, width: 1 };
        let head = Head { factors: vec![span(0, 2), span(1, 2)], fallback: 0.125 };
        let mut out = [0.0; 2];
        assert_eq!(head.run(&memory, 2, |row, score| out[row] = score), 1);
        assert_eq!(out, [0.125, 0.125]);
    }
}
