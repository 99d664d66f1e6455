//! From raw values to table rows and network inputs, exactly as training does it, with every unusual value counted.

use crate::request::Values;
use std::collections::HashMap;
use xxhash_rust::xxh64::xxh64;

/// What came in for one feature since its scorer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureCounters {
    /// Values seen, missing ones included.
    pub values: u64,
    /// Values that no row was trained for.
    pub oov: u64,
    /// Values that were missing.
    pub missing: u64,
}

/// How a raw value finds its row.
#[derive(Debug)]
pub enum Mapping {
    /// The value is the row.
    Identity,
    /// `offset + xxh64(bytes, seed) mod buckets`
    Hash { seed: u64, buckets: u64, offset: u32 },
    /// Listed integers.
    Integers(HashMap<i64, u32>),
    /// Listed texts.
    Texts(HashMap<Box<[u8]>, u32>),
    /// `offset + (number of boundaries <= value)`
    Bucketize { boundaries: Vec<f32>, offset: u32 },
}

/// A mapping with the rows for what it does not know. Every row it gives is below `rows`: checked when it is made.
#[derive(Debug)]
pub struct Lookup {
    pub mapping: Mapping,
    pub rows: usize,
    pub oov: u32,
    pub missing: u32,
}

impl Lookup {
    /// Writes the rows of `values[start..start + out.len()]`.
    ///
    /// The column was checked by [`crate::request::Bound`]: the range is inside it and its type fits the mapping.
    pub fn rows(&self, values: &Values<'_>, start: usize, out: &mut [u32], counters: &mut FeatureCounters) {
        counters.values += out.len() as u64;
        let end = start + out.len();
        match values {
            Values::I64(values) => {
                for (row, value) in out.iter_mut().zip(&values[start..end]) {
                    *row = if *value == i64::MIN { self.missing(counters) } else { self.integer(*value, counters) };
                }
            }
            Values::I32(values) => {
                for (row, value) in out.iter_mut().zip(&values[start..end]) {
                    let is_missing = *value == i32::MIN;
                    *row = if is_missing { self.missing(counters) } else { self.integer(i64::from(*value), counters) };
                }
            }
            Values::F32(values) => {
                for (row, value) in out.iter_mut().zip(&values[start..end]) {
                    *row = if value.is_finite() { self.float(*value, counters) } else { self.missing(counters) };
                }
            }
            Values::Text { bytes, offsets } => {
                for (row, ends) in out.iter_mut().zip(offsets[start..=end].windows(2)) {
                    let text = &bytes[ends[0] as usize..ends[1] as usize];
                    *row = if text.is_empty() { self.missing(counters) } else { self.text(text, counters) };
                }
            }
        }
    }

    /// Writes the row of missing values for all of `out`.
    pub fn absent(&self, out: &mut [u32], counters: &mut FeatureCounters) {
        counters.values += out.len() as u64;
        counters.missing += out.len() as u64;
        out.fill(self.missing);
    }

    fn missing(&self, counters: &mut FeatureCounters) -> u32 {
        counters.missing += 1;
        self.missing
    }

    fn known(&self, row: Option<u32>, counters: &mut FeatureCounters) -> u32 {
        row.unwrap_or_else(|| {
            counters.oov += 1;
            self.oov
        })
    }

    fn integer(&self, value: i64, counters: &mut FeatureCounters) -> u32 {
        let row = match &self.mapping {
            Mapping::Identity => u32::try_from(value).ok().filter(|row| (*row as usize) < self.rows),
            Mapping::Hash { seed, buckets, offset } => Some(hash(&value.to_le_bytes(), *seed, *buckets, *offset)),
            Mapping::Integers(rows) => rows.get(&value).copied(),
            Mapping::Texts(_) | Mapping::Bucketize { .. } => None,
        };
        self.known(row, counters)
    }

    fn text(&self, text: &[u8], counters: &mut FeatureCounters) -> u32 {
        let row = match &self.mapping {
            Mapping::Hash { seed, buckets, offset } => Some(hash(text, *seed, *buckets, *offset)),
            Mapping::Texts(rows) => rows.get(text).copied(),
            Mapping::Identity | Mapping::Integers(_) | Mapping::Bucketize { .. } => None,
        };
        self.known(row, counters)
    }

    fn float(&self, value: f32, counters: &mut FeatureCounters) -> u32 {
        let row = match &self.mapping {
            Mapping::Bucketize { boundaries, offset } => {
                Some(offset + boundaries.partition_point(|boundary| *boundary <= value) as u32)
            }
            _ => None,
        };
        self.known(row, counters)
    }
}

fn hash(bytes: &[u8], seed: u64, buckets: u64, offset: u32) -> u32 {
    offset + (xxh64(bytes, seed) % buckets) as u32
}

/// How a raw dense value becomes a network input. Constants are per column of the feature.
#[derive(Debug)]
pub enum Scaling {
    /// As it is.
    None,
    /// `(x - mean) * (1 / std)`
    Standardize { mean: Vec<f32>, reciprocal: Vec<f32> },
    /// `ln(1 + max(x, 0))`, in f64, rounded to f32.
    Log1p,
    /// `(x - min) * (1 / (max - min))`, clamped to 0..1.
    MinMax { min: Vec<f32>, reciprocal: Vec<f32> },
}

impl Scaling {
    /// The input of column `column` for a finite `value`.
    pub fn apply(&self, column: usize, value: f32) -> f32 {
        match self {
            Scaling::None => value,
            Scaling::Standardize { mean, reciprocal } => (value - mean[column]) * reciprocal[column],
            Scaling::Log1p => f64::from(value.max(0.0)).ln_1p() as f32,
            Scaling::MinMax { min, reciprocal } => ((value - min[column]) * reciprocal[column]).clamp(0.0, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(mapping: Mapping, values: Values<'_>) -> (Vec<u32>, FeatureCounters) {
        let lookup = Lookup { mapping, rows: 10, oov: 8, missing: 9 };
        let mut counters = FeatureCounters::default();
        let mut out = vec![0; values.len()];
        lookup.rows(&values, 0, &mut out, &mut counters);
        (out, counters)
    }

    #[test]
    fn identity_sends_what_is_outside_the_table_to_the_oov_row() {
        let ids = [0, 7, 10, -1, i64::MAX, i64::MIN, 1 << 32];
        let (out, counters) = rows(Mapping::Identity, Values::I64(&ids));
        assert_eq!(out, [0, 7, 8, 8, 8, 9, 8]);
        assert_eq!(counters, FeatureCounters { values: 7, oov: 4, missing: 1 });
    }

    #[test]
    fn hash_agrees_with_the_published_vectors_of_xxh64() {
        assert_eq!(xxh64(b"", 0), 0xEF46_DB37_51D8_E999);
        assert_eq!(xxh64(b"a", 0), 0xD24E_C4F1_A98C_6E5B);
        assert_eq!(xxh64(b"abc", 0), 0x44BC_2CF5_AD77_0999);
        let mapping = Mapping::Hash { seed: 0, buckets: 7, offset: 2 };
        let (out, _) = rows(mapping, Values::Text { bytes: b"abca", offsets: &[0, 3, 4, 4] });
        assert_eq!(out, [2 + (0x44BC_2CF5_AD77_0999_u64 % 7) as u32, 2 + (0xD24E_C4F1_A98C_6E5B_u64 % 7) as u32, 9]);
    }

    #[test]
    fn bucketize_counts_boundaries_up_to_and_with_the_value() {
        let mapping = Mapping::Bucketize { boundaries: vec![18.0, 25.0], offset: 1 };
        let (out, counters) = rows(mapping, Values::F32(&[17.9, 18.0, 24.0, 25.0, f32::NAN, f32::INFINITY]));
        assert_eq!(out, [1, 2, 2, 3, 9, 9]);
        assert_eq!(counters.missing, 2);
    }

    #[test]
    fn vocabularies_know_what_they_list() {
        let texts = HashMap::from([(Box::from(b"Rural".as_slice()), 1), (Box::from(b"Urban".as_slice()), 2)]);
        let (out, _) = rows(Mapping::Texts(texts), Values::Text { bytes: b"UrbanRuralMoon", offsets: &[0, 5, 10, 14] });
        assert_eq!(out, [2, 1, 8]);
        let (out, _) = rows(Mapping::Integers(HashMap::from([(-5, 3)])), Values::I32(&[-5, 5, i32::MIN]));
        assert_eq!(out, [3, 8, 9]);
    }

    #[test]
    fn scaling_follows_its_formulas() {
        let standardize = Scaling::Standardize { mean: vec![3.0], reciprocal: vec![0.5] };
        assert_eq!(standardize.apply(0, 5.0), 1.0);
        assert_eq!(Scaling::Log1p.apply(0, -4.0), 0.0);
        assert_eq!(Scaling::Log1p.apply(0, 1.0), std::f32::consts::LN_2);
        let minmax = Scaling::MinMax { min: vec![1.0], reciprocal: vec![0.5] };
        assert_eq!([0.0, 2.0, 9.0].map(|x| minmax.apply(0, x)), [0.0, 0.5, 1.0]);
    }
}
