//! Elements of a row in another order: what a transposition, a slice with steps or a repetition reads.

/// Consecutive elements that stay together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub from: u32,
    pub length: u32,
}

/// Where each element of a row comes from, as runs of consecutive places.
#[derive(Debug, PartialEq, Eq)]
pub struct Places {
    runs: Vec<Run>,
    width: usize,
    reach: usize,
}

impl Places {
    /// The places of all elements, in order.
    pub fn new(places: &[u32]) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for place in places {
            match runs.last_mut() {
                Some(run) if run.from.checked_add(run.length) == Some(*place) => run.length += 1,
                _ => runs.push(Run { from: *place, length: 1 }),
            }
        }
        let reach = places.iter().max().map_or(0, |last| *last as usize + 1);
        Self { runs, width: places.len(), reach }
    }

    /// How many elements there are.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The width that a row must have to hold every place.
    pub fn reach(&self) -> usize {
        self.reach
    }

    /// Their lengths add up to the width, and all end within the reach.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }
}
