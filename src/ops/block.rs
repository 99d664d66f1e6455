//! The edge between rows and positions: steps over the positions of a sequence run once per candidate, on that candidate's
//! rows, which are copied in before and out after.

use super::{Context, Span};

/// `inside = outside[candidate]`
#[derive(Debug)]
pub struct Enter {
    pub outside: Span,
    pub inside: Span,
}

impl Enter {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let start = self.outside.offset + context.candidate * self.outside.stride;
        context.memory.copy_within(start..start + self.outside.width, self.inside.offset);
    }
}

/// `outside[candidate] = inside`
#[derive(Debug)]
pub struct Leave {
    pub inside: Span,
    pub outside: Span,
}

impl Leave {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let start = self.inside.offset;
        let to = self.outside.offset + context.candidate * self.outside.stride;
        context.memory.copy_within(start..start + self.inside.width, to);
    }
}
