//! The item cache: rows of values that depend on the ad alone, kept across requests under the keys that the host gives.
//!
//! A set of places that a key may be in is found by its hash. Each place has a lock of its own, which is only ever tried: who finds
//! it taken goes without, a reader by computing the row, a writer by not keeping it. So nobody waits, and a row is read whole: it
//! is held until its tile is scored, as steps read their parts of it one by one.
//! In a full set, the row that was used longest ago makes room.

use crate::error::{Error, ErrorKind};
use crate::ops::{Kernels, LINE, Part, Room, Span};
use crate::plan::{ItemRow, ItemRows};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{RwLock, RwLockReadGuard};
use xxhash_rust::xxh64::xxh64;

/// Places of a set.
const WAYS: usize = 8;

/// Numbers that become halves at a time.
const BLOCK: usize = 64;

/// The rows that a model keeps.
pub struct ItemCache {
    sets: Vec<Set>,
    /// Ticks with every tile that looks for rows.
    clock: AtomicU64,
    row_bytes: usize,
}

struct Set {
    /// The hash of the key in each place, 0 in an empty one: a look at a cache line before any lock.
    hashes: [AtomicU64; WAYS],
    /// When each was used last.
    used: [AtomicU64; WAYS],
    places: [RwLock<Place>; WAYS],
}

struct Place {
    /// `None` before the first.
    key: Option<i64>,
    row: Part,
}

/// A row of the cache.
pub struct Found<'a> {
    place: RwLockReadGuard<'a, Place>,
}

impl Found<'_> {
    pub fn bytes(&self) -> &[u8] {
        &self.place.row
    }
}

impl ItemCache {
    /// Room for as many rows as fit into `budget` bytes, whole sets of them.
    ///
    /// # Errors
    /// `OutOfMemory` if it cannot be reserved.
    pub fn new(row: &ItemRow, budget: usize) -> Result<Self, Error> {
        let row_bytes = row.bytes.next_multiple_of(LINE);
        let count = budget / (size_of::<Set>() + WAYS * row_bytes);
        let mut sets: Vec<Set> = Vec::new();
        let full = || Error::new(ErrorKind::OutOfMemory, "item_bytes", format!("{budget} bytes cannot be reserved"));
        sets.try_reserve_exact(count).map_err(|_| full())?;
        let mut rows = Room::new(count * WAYS * row_bytes).ok_or_else(full)?.parts(row.bytes);
        for _ in 0..count {
            let places: Vec<_> = rows.by_ref().take(WAYS).map(|row| RwLock::new(Place { key: None, row })).collect();
            sets.push(Set {
                hashes: Default::default(),
                used: Default::default(),
                places: places.try_into().map_err(|_| full())?,
            });
        }
        Ok(Self { sets, clock: AtomicU64::new(0), row_bytes })
    }

    /// How many rows there is room for.
    pub fn rows(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// Bytes that it owns.
    pub fn bytes(&self) -> usize {
        self.sets.len() * (size_of::<Set>() + WAYS * self.row_bytes)
    }

    /// The time of a tile.
    pub fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Relaxed) + 1
    }

    /// Brings the set of `key` into the caches.
    pub fn prefetch(&self, kernels: &Kernels, key: i64) {
        if let Some(set) = self.set(hash(key)) {
            kernels.prefetch(std::slice::from_ref(set));
        }
    }

    /// The row of `key`, if it is here and nobody writes it; nobody will while it is held.
    pub fn find(&self, key: i64, now: u64) -> Option<Found<'_>> {
        let hash = hash(key);
        let set = self.set(hash)?;
        let way = set.find(hash)?;
        let place = set.places[way].try_read().ok().filter(|place| place.key == Some(key))?;
        set.used[way].store(now, Relaxed);
        Some(Found { place })
    }

    /// Keeps the row of `key`, unless it is here already or somebody uses the place that it would get.
    pub fn keep(&self, key: i64, now: u64, row: &[u8]) {
        let hash = hash(key);
        let Some(set) = self.set(hash) else { return };
        if set.find(hash).is_some() {
            return;
        }
        let oldest = set.used.iter().enumerate().min_by_key(|(_, used)| used.load(Relaxed));
        let Some((way, _)) = oldest else { return };
        if let Ok(mut place) = set.places[way].try_write() {
            place.key = Some(key);
            place.row.copy_from_slice(row);
            set.used[way].store(now, Relaxed);
            set.hashes[way].store(hash, Relaxed);
        }
    }

    fn set(&self, hash: u64) -> Option<&Set> {
        self.sets.get(((u128::from(hash) * self.sets.len() as u128) >> 64) as usize)
    }
}

impl Set {
    fn find(&self, hash: u64) -> Option<usize> {
        self.hashes.iter().position(|known| known.load(Relaxed) == hash)
    }
}

/// Never 0.
fn hash(key: i64) -> u64 {
    xxh64(&key.to_le_bytes(), 0).max(1)
}

impl ItemRow {
    /// Writes the row of candidate `row` of a tile to `bytes`: what the cache keeps, and what later steps read.
    pub fn encode(&self, memory: &[f32], row: usize, bytes: &mut [u8]) {
        for part in &self.parts {
            let Span { offset, stride, width } = part.span;
            let values = &memory[offset + row * stride..][..width];
            let bytes = &mut bytes[part.start..];
            match self.rows {
                ItemRows::F32 => {
                    for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                        *bytes = value.to_le_bytes();
                    }
                }
                ItemRows::F16 => {
                    for (bytes, values) in bytes.chunks_mut(2 * BLOCK).zip(values.chunks(BLOCK)) {
                        let (mut held, mut halves) = ([0.0; BLOCK], [f16::ZERO; BLOCK]);
                        for (held, value) in held.iter_mut().zip(values) {
                            *held = value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32());
                        }
                        halves.convert_from_f32_slice(&held);
                        for (bytes, half) in bytes.as_chunks_mut().0.iter_mut().zip(&halves[..values.len()]) {
                            *bytes = half.to_le_bytes();
                        }
                    }
                }
                ItemRows::Int8 => {
                    let (scale, integers) = bytes.split_at_mut(self.rows.element().scale_bytes());
                    // What is not finite makes the scale NaN, and so the score the fallback.
                    let sum = values.iter().fold(0.0f32, |sum, value| sum + value * 0.0);
                    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                    let step = largest / 127.0 + sum;
                    scale.copy_from_slice(&step.to_le_bytes());
                    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
                    for (byte, value) in integers.iter_mut().zip(values) {
                        *byte = nearest(value * inverse) as i8 as u8;
                    }
                }
            }
        }
    }
}

/// The integer nearest to a number within 2^22, of two the even one.
fn nearest(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Activation, Unpack};
    use crate::plan::ItemPart;

    fn cache(rows: usize) -> ItemCache {
        let row = ItemRow { rows: ItemRows::F32, parts: Vec::new(), bytes: 8 };
        ItemCache::new(&row, rows * (size_of::<Set>() / WAYS + LINE)).expect("memory")
    }

    fn find(cache: &ItemCache, key: i64) -> Option<u64> {
        cache.find(key, cache.tick()).map(|found| u64::from_le_bytes(found.bytes().try_into().expect("8 bytes")))
    }

    #[test]
    fn the_row_used_longest_ago_makes_room() {
        let cache = cache(WAYS);
        assert_eq!(cache.rows(), WAYS);
        for key in 0..WAYS as i64 {
            cache.keep(key, cache.tick(), &(key as u64).to_le_bytes());
        }
        assert_eq!(find(&cache, 0), Some(0));
        cache.keep(99, cache.tick(), &99u64.to_le_bytes());
        assert_eq!((find(&cache, 1), find(&cache, 0), find(&cache, 99)), (None, Some(0), Some(99)));
    }

    #[test]
    fn a_row_that_is_known_stays_and_one_in_use_is_left_alone() {
        let cache = cache(WAYS);
        cache.keep(5, cache.tick(), &1u64.to_le_bytes());
        cache.keep(5, cache.tick(), &2u64.to_le_bytes());
        assert_eq!(find(&cache, 5), Some(1));
        let held = cache.sets[0].places[0].try_write().expect("free");
        assert_eq!(find(&cache, 5), None);
        drop(held);
        assert_eq!(find(&cache, 5), Some(1));
        let held: Vec<_> = cache.sets[0].places.iter().map(|place| place.try_read().expect("free")).collect();
        cache.keep(6, cache.tick(), &6u64.to_le_bytes());
        drop(held);
        assert_eq!((find(&cache, 5), find(&cache, 6)), (Some(1), None));
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let cache = cache(WAYS - 1);
        assert_eq!((cache.rows(), cache.bytes()), (0, 0));
        cache.keep(1, cache.tick(), &[0; 8]);
        assert_eq!(find(&cache, 1), None);
    }

    #[test]
    fn readers_never_see_a_row_of_another_key() {
        let cache = cache(2 * WAYS);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let cache = &cache;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread);
                    let mut known = 0;
                    for _ in 0..50_000 {
                        let key = random.i64(-40..40);
                        match find(cache, key) {
                            Some(found) => {
                                assert_eq!(found, key as u64);
                                known += 1;
                            }
                            None => cache.keep(key, cache.tick(), &(key as u64).to_le_bytes()),
                        }
                    }
                    assert!(known > 1000, "{known}");
                });
            }
        });
    }

    fn decode(row: &ItemRow, bytes: &[u8], memory: &mut [f32], place: usize) {
        for ItemPart { span, start } in &row.parts {
            let output = Span { offset: span.offset + place * span.stride, ..*span };
            let (element, activation) = (row.rows.element(), Activation::Identity);
            let unpack = Unpack { rows: &[bytes], element, start: *start, addend: None, activation, output };
            Kernels::select(None).expect("kernels").unpack(memory, &unpack);
        }
    }

    #[test]
    fn rows_come_back_rounded_as_their_type_rounds() {
        let span = |offset, width| Span { offset, stride: 100, width };
        for rows in [ItemRows::F32, ItemRows::F16, ItemRows::Int8] {
            let row = ItemRow::new(rows, vec![span(3, 67), span(80, 5)]).expect("parts");
            let mut random = fastrand::Rng::with_seed(7);
            let memory: Vec<f32> = (0..300).map(|_| random.f32() * 8.0 - 4.0).collect();
            let mut bytes = vec![0; row.bytes];
            row.encode(&memory, 1, &mut bytes);
            let mut decoded = vec![f32::NAN; 300];
            decode(&row, &bytes, &mut decoded, 2);
            let bound = match rows {
                ItemRows::F32 => 0.0,
                ItemRows::F16 => 4.0 / 2048.0,
                ItemRows::Int8 => 4.0 / 127.0 / 2.0 * 1.001,
            };
            for place in (3..70).chain(80..85) {
                let error = (decoded[200 + place] - memory[100 + place]).abs();
                assert!(error <= bound, "{rows:?} {place}: {error}");
            }
            assert!(decoded[..203].iter().all(|x| x.is_nan()) && decoded[285..].iter().all(|x| x.is_nan()));
        }
    }

    #[test]
    fn what_is_not_finite_stays_so_or_is_held() {
        for (value, rows, is_finite) in [
            (f32::NAN, ItemRows::Int8, false),
            (f32::INFINITY, ItemRows::Int8, false),
            (f32::NAN, ItemRows::F16, false),
            (1e6, ItemRows::F16, true),
            (1e-40, ItemRows::Int8, true),
            (0.0, ItemRows::Int8, true),
        ] {
            let row = ItemRow::new(rows, vec![Span { offset: 0, stride: 4, width: 4 }]).expect("parts");
            let mut memory = [0.0, value, 0.0, 0.0];
            let mut bytes = vec![0; row.bytes];
            row.encode(&memory, 0, &mut bytes);
            decode(&row, &bytes, &mut memory, 0);
            assert_eq!(memory.iter().all(|x| x.is_finite()), is_finite, "{value} {rows:?}: {memory:?}");
        }
    }
}
