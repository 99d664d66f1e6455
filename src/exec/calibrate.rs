//! Choices between plans that give the same scores, by measurement at open.

use super::run::{Scratch, Sources};
use crate::error::Error;
use crate::plan::TILES;
use std::time::{Duration, Instant};

/// Each tile is tried so often, in turns; the least time counts.
const TURNS: usize = 3;

/// A larger tile has to save this share of the time.
const WORTH: f64 = 0.02;

/// How many candidates to compute together: of the sizes that the memory of `sources.plan` has room for, the fastest. The
/// steps run on zeros, without those that read columns and tables.
///
/// # Errors
/// `OutOfMemory` if a scorer cannot be reserved.
pub fn tile(sources: &Sources<'_>) -> Result<usize, Error> {
    let largest = sources.plan.tile();
    let sizes: Vec<usize> = TILES.into_iter().filter(|size| *size <= largest).collect();
    if sizes.len() < 2 {
        return Ok(largest);
    }
    let mut scratch = Scratch::new(sources)?;
    let mut best = vec![Duration::MAX; sizes.len()];
    for _ in 0..TURNS {
        for (best, rows) in best.iter_mut().zip(&sizes) {
            let start = Instant::now();
            scratch.compute(sources, *rows);
            *best = start.elapsed().min(*best);
        }
    }
    let mut chosen = 0;
    let per_row = |place: usize| best[place].as_secs_f64() / sizes[place] as f64;
    for place in 1..sizes.len() {
        if per_row(place) < per_row(chosen) * (1.0 - WORTH) {
            chosen = place;
        }
    }
    Ok(sizes[chosen])
}
