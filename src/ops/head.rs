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
    /// Writes one score per element of `out`; returns how many were not finite.
    pub fn run(&self, memory: &[f32], out: &mut [f32]) -> u64 {
        let mut replaced = 0;
        for (row, out) in out.iter_mut().enumerate() {
            let mut factors = self.factors.iter().map(|factor| memory[factor.offset + row * factor.stride]);
            let first = factors.next().unwrap_or(f32::NAN);
            let score = factors.fold(first, |product, factor| product * factor);
            *out = if score.is_finite() {
                score
            } else {
                replaced += 1;
                self.fallback
            };
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
        assert_eq!(head.run(&memory, &mut out), 1);
        assert_eq!(out, [0.125, 0.125]);
    }
}
