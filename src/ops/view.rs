//! `out[j] = in[places[j]]`: a transposition, a slice with steps, a repetition.

use super::{Context, Span};
use crate::kernels::Places;

/// The elements of a row in another order.
#[derive(Debug)]
pub struct View {
    pub input: Span,
    pub places: Places,
    pub output: Span,
}

impl View {
    /// `None` if a place lies outside of the input, or there are not as many as the output is wide.
    pub fn new(input: Span, places: &[u32], output: Span) -> Option<Self> {
        let places = Places::new(places);
        let fits = places.width() == output.width && places.reach() <= input.width;
        fits.then_some(Self { input, places, output })
    }

    pub(super) fn run(&self, context: &mut Context<'_>) {
        context.kernels.view(context.memory, context.rows, self.input, &self.places, self.output);
    }
}
