//! Choices between plans that give the same scores, by measurement at open.

use super::run::{Scratch, Sources};
use crate::error::Error;
use crate::plan::TILES;
use std::time::{Duration, Instant};

/// Sizes that are tried, and how often, in turns; the least time counts.
const SIZES: usize = 4;
const TURNS: usize = 3;

/// What all of it may take, but for the last try.
const BUDGET: Duration = Duration::from_millis(20);

/// A larger tile has to save this share of the time.
const WORTH: f64 = 0.02;

/// How many candidates to compute together: of the largest sizes that the memory of `sources.plan` has room for, the fastest
/// of those that were tried before the time was up. The steps run on zeros, without those that read columns and tables.
///
/// # Errors
/// `OutOfMemory` if a scorer cannot be reserved.
pub fn tile(sources: &Sources<'_>) -> Result<usize, Error> {
    let largest = sources.plan.tile();
    let fitting = TILES.iter().take_while(|size| **size <= largest).count();
    let sizes = &TILES[fitting.saturating_sub(SIZES)..fitting];
    let [smallest, _, ..] = sizes else { return Ok(largest) };
    let mut scratch = Scratch::new(sources)?;
    let begin = Instant::now();
    // Fetches the weights, and is all that a slow set has time for.
    scratch.compute(sources, TILES[0]);
    let mut best = vec![Duration::MAX; sizes.len()];
    for (place, rows) in (0..TURNS).flat_map(|_| sizes.iter().enumerate()) {
        if begin.elapsed() > BUDGET {
            break;
        }
        let start = Instant::now();
        scratch.compute(sources, *rows);
        best[place] = start.elapsed().min(best[place]);
    }
    let mut chosen = (*smallest, f64::INFINITY);
    for (rows, time) in sizes.iter().zip(best).filter(|(_, time)| *time < Duration::MAX) {
        let per_row = time.as_secs_f64() / *rows as f64;
        if per_row < chosen.1 * (1.0 - WORTH) {
            chosen = (*rows, per_row);
        }
    }
    Ok(chosen.0)
}
