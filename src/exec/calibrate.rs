//! Choices between plans that give the same scores, by measurement at open.

use super::items::ItemCache;
use super::run::{Scratch, Sources, Tile};
use crate::error::Error;
use crate::ops::{LINE, Operation};
use crate::plan::{Stage, TILES, Tasks};
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

/// Bytes of the cache that loads are timed with: more than the caches next to a core, so that rows come from further away.
const SAMPLE: usize = 8 << 20;

/// What the item's share of a candidate takes, by a measurement at open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemTimes {
    /// From an item cache, with what is added to it.
    pub load: Duration,
    /// Without one. Rows of tables are taken to cost what a load of as many cache lines does.
    pub compute: Duration,
}

/// How long the rows of an item cache of `budget` bytes take; `None` if it has room for fewer than a tile.
///
/// # Errors
/// `OutOfMemory` if a scorer, or a cache to measure with, cannot be reserved.
pub fn item_times(sources: &Sources<'_>, budget: usize) -> Result<Option<ItemTimes>, Error> {
    let plan = sources.plan;
    let Some(row) = &plan.items else { return Ok(None) };
    let rows = plan.tile;
    let cache = ItemCache::new(row, budget.min(SAMPLE))?;
    if cache.rows() < rows {
        return Ok(None);
    }
    let mut scratch = Scratch::new(sources)?;
    let bytes = vec![0; row.bytes];
    let mut keys: Vec<i64> = (0..cache.rows() as i64 / 2).collect();
    keys.iter().for_each(|key| cache.keep(*key, cache.tick(), &bytes));
    // Full sets lost some.
    keys.retain(|key| cache.find(*key, cache.tick()).is_some());
    let [mut load, mut compute] = [Duration::MAX; 2];
    for turn in 0..TURNS {
        // Far from each other and from those of the turn before.
        let shown: Vec<i64> = (0..rows).map(|place| keys[(place * TURNS + turn) * 7919 % keys.len()]).collect();
        let start = Instant::now();
        scratch.with_items(sources, Some((&cache, &shown)), &[], Tile::of(0, rows), |scratch, tile| {
            for place in plan.places(Stage::Candidate) {
                if matches!(plan.step(place).operation, Operation::Cached(_)) {
                    scratch.run_steps(sources, Stage::Candidate, place..place + 1, Tasks::MAX, &[], tile);
                }
            }
        });
        load = start.elapsed().min(load);
        let start = Instant::now();
        scratch.compute_stage(sources, Stage::Item, false, rows);
        compute = start.elapsed().min(compute);
    }
    let gathered = plan.range(Stage::Item, false).map(|place| match &plan.step(place).operation {
        Operation::Gather(gather) => gather.element.row_bytes(gather.output.width).div_ceil(LINE),
        _ => 0,
    });
    let share = gathered.sum::<usize>() as f64 / row.bytes.div_ceil(LINE) as f64;
    let [load, compute] = [load, compute + load.mul_f64(share)].map(|time| time / rows as u32);
    Ok(Some(ItemTimes { load, compute }))
}
