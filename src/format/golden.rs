//! Golden requests: recorded inputs and scores, decoded from tensors, with every length checked.
//!
//! The tensors of request `i` and feature `F` are `golden.{i}.request.{F}` or, for the rates item and pair,
//! `golden.{i}.candidates.{F}`: I64 for ids, F32 for dense and bucketized values, `[rows]`, or `[rows, width]` where
//! the width is above 1; U8 for text, with I64 `{..}.text_offsets`, `[values + 1]`. Bags have I64 `{..}.row_offsets`,
//! `[rows + 1]`. A feature that declares `missing` may have none of these. Scores are F32 `golden.{i}.scores.{task}`,
//! `[candidates]`, for every task.

use super::description::{Description, Feature, FeatureKind, GoldenHead, Rate, ValueKind};
use super::store::Store;
use super::tensor::{Dtype, Tensor, TensorId};
use crate::error::{Error, ErrorKind};

/// A recorded request with its scores.
#[derive(Clone, Debug, PartialEq)]
pub struct GoldenRequest {
    /// The scenario; `None` asks for the fallback.
    pub scenario: Option<u32>,
    /// The number of candidates.
    pub candidates: usize,
    /// The columns of the request's one row, by ascending slot.
    pub request: Vec<GoldenColumn>,
    /// The columns of the candidates, by ascending slot.
    pub candidate: Vec<GoldenColumn>,
    /// The scores of each task of the model, a candidate each.
    pub scores: Vec<Vec<f32>>,
}

/// One owned column.
#[derive(Clone, Debug, PartialEq)]
pub struct GoldenColumn {
    /// The slot of the feature.
    pub feature: u32,
    /// The values.
    pub values: GoldenValues,
    /// For a bag, where each row begins, and the end.
    pub row_offsets: Option<Vec<i64>>,
}

/// The values of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum GoldenValues {
    /// Integers.
    I64(Vec<i64>),
    /// Numbers, row after row.
    F32(Vec<f32>),
    /// Text.
    Text {
        /// All strings, one after the other.
        bytes: Vec<u8>,
        /// Where each string begins, and the end.
        offsets: Vec<i64>,
    },
}

impl Description {
    /// The golden requests, none if the description has none, and the tensors they are made of.
    ///
    /// # Errors
    /// `Tensor` for one that is missing, or has another type or shape than its feature and the number of candidates
    /// ask for, or offsets that do not start at 0, ascend and end at the last value, or a score that is not finite.
    pub fn golden_requests(&self, store: &Store) -> Result<(Vec<GoldenRequest>, Vec<TensorId>), Error> {
        let mut reader = Reader { store, used: Vec::new() };
        let heads = self.golden.iter().flat_map(|golden| &golden.requests).enumerate();
        let requests = heads.map(|(number, head)| reader.request(self, number, head)).collect::<Result<_, _>>()?;
        Ok((requests, reader.used))
    }
}

struct Reader<'s> {
    store: &'s Store,
    used: Vec<TensorId>,
}

impl<'s> Reader<'s> {
    fn request(&mut self, of: &Description, number: usize, head: &GoldenHead) -> Result<GoldenRequest, Error> {
        let (mut request, mut candidate) = (Vec::new(), Vec::new());
        for (slot, feature) in (0u32..).zip(&of.features) {
            let (side, rows, columns) = match feature.rate {
                Rate::Request => ("request", 1, &mut request),
                Rate::Item | Rate::Pair => ("candidates", head.candidates, &mut candidate),
            };
            columns.extend(self.column(&format!("golden.{number}.{side}.{}", feature.name), slot, feature, rows)?);
        }
        let scores = of.tasks.iter().map(|task| {
            let name = format!("golden.{number}.scores.{}", task.name);
            let scores = self.require(&name)?;
            scores.check_shape(&[head.candidates])?;
            let values = numbers(&scores)?;
            match values.iter().position(|score| !score.is_finite()) {
                None => Ok(values),
                Some(index) => Err(refuse(&name, format!("element {index} is not a finite number"))),
            }
        });
        let scores = scores.collect::<Result<_, _>>()?;
        Ok(GoldenRequest { scenario: head.scenario, candidates: head.candidates, request, candidate, scores })
    }

    fn column(&mut self, name: &str, slot: u32, feature: &Feature, rows: usize) -> Result<Option<GoldenColumn>, Error> {
        if feature.is_optional() && self.store.find(name).is_none() {
            return Ok(None);
        }
        let tensor = self.require(name)?;
        let (row_offsets, count) = match feature.kind {
            FeatureKind::Ids { .. } | FeatureKind::Sequence { .. } => {
                let name = format!("{name}.row_offsets");
                let offsets = self.require(&name)?;
                offsets.check_shape(&[rows + 1])?;
                let offsets = offsets.to_i64()?;
                let end = offsets.last().and_then(|&end| usize::try_from(end).ok());
                let count = check_offsets(&name, &offsets, end.unwrap_or(0))?;
                (Some(offsets), count)
            }
            FeatureKind::Id { .. } | FeatureKind::Dense(_) => (None, rows),
        };
        let is_text = match feature.value_kind() {
            ValueKind::Text => true,
            ValueKind::IntegerOrText => tensor.dtype == Dtype::U8,
            ValueKind::Integer | ValueKind::Number => false,
        };
        let values = if is_text {
            self.text(name, &tensor, count * feature.width())?
        } else {
            match feature.width() {
                1 => tensor.check_shape(&[count])?,
                width => tensor.check_shape(&[count, width])?,
            }
            match feature.value_kind() {
                ValueKind::Number => GoldenValues::F32(numbers(&tensor)?),
                _ => GoldenValues::I64(tensor.to_i64()?),
            }
        };
        Ok(Some(GoldenColumn { feature: slot, values, row_offsets }))
    }

    fn text(&mut self, name: &str, tensor: &Tensor<'_>, count: usize) -> Result<GoldenValues, Error> {
        if tensor.dtype != Dtype::U8 {
            return Err(tensor.wrong_type("U8"));
        }
        tensor.check_shape(&[tensor.bytes.len()])?;
        let offsets_name = format!("{name}.text_offsets");
        let offsets = self.require(&offsets_name)?;
        offsets.check_shape(&[count + 1])?;
        let offsets = offsets.to_i64()?;
        check_offsets(&offsets_name, &offsets, tensor.bytes.len())?;
        Ok(GoldenValues::Text { bytes: tensor.to_bytes()?, offsets })
    }

    fn require(&mut self, name: &str) -> Result<Tensor<'s>, Error> {
        let id = self.store.require(name)?;
        self.used.push(id);
        Ok(self.store.tensor(id))
    }
}

fn numbers(tensor: &Tensor<'_>) -> Result<Vec<f32>, Error> {
    if tensor.dtype != Dtype::F32 {
        return Err(tensor.wrong_type("F32"));
    }
    tensor.to_f32()
}

/// Offsets start at 0, do not descend, and end at `end`, which is returned.
fn check_offsets(name: &str, offsets: &[i64], end: usize) -> Result<usize, Error> {
    let starts = offsets.first() == Some(&0);
    if !starts || !offsets.is_sorted() || offsets.last().and_then(|&last| usize::try_from(last).ok()) != Some(end) {
        return Err(refuse(name, "offsets do not start at 0, ascend, and end at the last value"));
    }
    Ok(end)
}

fn refuse(name: &str, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Tensor, name, detail)
}

#[cfg(test)]
mod tests {
    use super::super::write::write;
    use super::*;

    #[test]
    fn columns_of_every_kind_are_decoded() {
        let description = r#"{"format_version":1,"features":[
            {"name":"user","rate":"request","kind":"id","table":"t","transform":{"type":"identity"},"oov":0},
            {"name":"words","rate":"item","kind":"ids","table":"t","oov":0,
             "transform":{"type":"hash","algorithm":"xxh64","buckets":2}},
            {"name":"price","rate":"pair","kind":"dense","width":2},
            {"name":"age","rate":"request","kind":"dense","width":1,"missing":0}],
            "scenarios":[{"name":"feed","id":7}],"tasks":[{"name":"ctr"}],"network":{"type":"any"},
            "golden":{"tolerance":1e-5,"requests":[{"candidates":2},{"scenario":"feed","candidates":1}]}}"#;
        let mut tensors = vec![("t".to_owned(), Dtype::F32, vec![2, 1], vec![0; 8])];
        let mut add = |name: &str, dtype, shape: &[usize], bytes: Vec<u8>| {
            tensors.push((format!("golden.{name}"), dtype, shape.to_vec(), bytes));
        };
        let i64s = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let f32s = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        for (request, candidates) in [(0, 2), (1, 1)] {
            add(&format!("{request}.request.user"), Dtype::I64, &[1], i64s(&[5]));
            let price = [1.0, 2.0, 3.0, 4.0];
            add(&format!("{request}.candidates.price"), Dtype::F32, &[candidates, 2], f32s(&price[..candidates * 2]));
            add(&format!("{request}.scores.ctr"), Dtype::F32, &[candidates], f32s(&[0.25, 1.0][..candidates]));
        }
        add("0.candidates.words", Dtype::U8, &[5], b"aabbb".to_vec());
        add("0.candidates.words.text_offsets", Dtype::I64, &[4], i64s(&[0, 2, 2, 5]));
        add("0.candidates.words.row_offsets", Dtype::I64, &[3], i64s(&[0, 0, 3]));
        add("1.candidates.words", Dtype::I64, &[1], i64s(&[-3]));
        add("1.candidates.words.row_offsets", Dtype::I64, &[2], i64s(&[0, 1]));
        add("1.request.age", Dtype::F32, &[1], f32s(&[9.0]));

        let views: Vec<Tensor<'_>> =
            tensors.iter().map(|(name, dtype, shape, bytes)| Tensor { name, dtype: *dtype, shape, bytes }).collect();
        let path = std::env::temp_dir().join(format!("polyscore-golden-{}.safetensors", std::process::id()));
        write(&path, description, &views).unwrap();
        let store = Store::open(&path, &Default::default()).unwrap();
        std::fs::remove_file(&path).unwrap();

        let description = Description::parse(store.description_json()).unwrap();
        let (requests, used) = description.golden_requests(&store).unwrap();
        let column = |feature, values, row_offsets| GoldenColumn { feature, values, row_offsets };
        let user = || column(0, GoldenValues::I64(vec![5]), None);
        let expected = [
            GoldenRequest {
                scenario: None,
                candidates: 2,
                request: vec![user()],
                candidate: vec![
                    column(
                        1,
                        GoldenValues::Text { bytes: b"aabbb".to_vec(), offsets: vec![0, 2, 2, 5] },
                        Some(vec![0, 0, 3]),
                    ),
                    column(2, GoldenValues::F32(vec![1.0, 2.0, 3.0, 4.0]), None),
                ],
                scores: vec![vec![0.25, 1.0]],
            },
            GoldenRequest {
                scenario: Some(0),
                candidates: 1,
                request: vec![user(), column(3, GoldenValues::F32(vec![9.0]), None)],
                candidate: vec![
                    column(1, GoldenValues::I64(vec![-3]), Some(vec![0, 1])),
                    column(2, GoldenValues::F32(vec![1.0, 2.0]), None),
                ],
                scores: vec![vec![0.25]],
            },
        ];
        assert_eq!(requests, expected);
        // All tensors but the table were used, each once.
        let mut used: Vec<usize> = used.iter().map(|id| id.index()).collect();
        used.sort_unstable();
        assert_eq!(used, (1..store.len()).collect::<Vec<_>>());
    }

    #[test]
    fn offsets_start_at_0_ascend_and_end_at_the_end() {
        for offsets in [&[0, 3][..], &[0, 0, 3, 3], &[0, 1, 2, 3]] {
            assert_eq!(check_offsets("t", offsets, 3), Ok(3), "{offsets:?}");
        }
        for offsets in [&[][..], &[3], &[1, 3], &[0, 2], &[0, 4], &[0, 2, 1, 3], &[0, -1, 3], &[0, 4, 3]] {
            assert!(check_offsets("t", offsets, 3).is_err(), "{offsets:?}");
        }
    }
}
