//! Dense weights into panels: the columns of one rate, the batch norm folded in, once per open.

use crate::error::{Error, ErrorKind};
use crate::format::{Dtype, Store, Tensor, TensorId};
use crate::network::graph::{Columns, Layer, Norm};
use crate::ops::{Element, Panels};

/// The type in which dense weights are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// IEEE half precision storage, f32 arithmetic.
    F16,
    /// bfloat16 storage, f32 arithmetic.
    Bf16,
}

/// A batch norm as `x * scale + shift`: `scale = gamma / sqrt(variance + epsilon)`, `shift = beta - mean * scale`, in f64.
pub fn affine(store: &Store, norm: &Norm) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let (mean, variance) = (store.tensor(norm.mean).to_f32()?, store.tensor(norm.variance).to_f32()?);
    let values = |id: Option<TensorId>, otherwise: f32| match id {
        Some(id) => store.tensor(id).to_f32(),
        None => Ok(vec![otherwise; mean.len()]),
    };
    let (gamma, beta) = (values(norm.gamma, 1.0)?, values(norm.beta, 0.0)?);
    let scale: Vec<f64> = gamma
        .iter()
        .zip(&variance)
        .map(|(gamma, variance)| f64::from(*gamma) / (f64::from(*variance) + norm.epsilon).sqrt())
        .collect();
    let shift = scale.iter().zip(beta.iter().zip(&mean)).map(|(s, (b, m))| f64::from(*b) - f64::from(*m) * s).collect();
    Ok((scale, shift))
}

/// Packs `columns` of a layer of `outputs` outputs. Without `precision`, weights keep their stored type, but for products and
/// sums of several (a folded norm, a difference), which are new and are held in f32.
pub fn pack(
    store: &Store,
    layer: &Layer,
    columns: &[Columns],
    outputs: usize,
    precision: Option<Precision>,
) -> Result<Panels, Error> {
    let tensor = store.tensor(layer.weight);
    let weight = tensor.to_f32()?;
    let inputs = tensor.shape[usize::from(!layer.is_transposed)];
    let stored = |output: usize, input: usize| match layer.is_transposed {
        false => weight[output * inputs + input],
        true => weight[input * outputs + output],
    };
    let mut bias = match layer.bias {
        Some(id) => store.tensor(id).to_f32()?,
        None => vec![0.0; outputs],
    };
    let input_norm = layer.input_norm.as_ref().map(|norm| affine(store, norm)).transpose()?;
    let norm = layer.norm.as_ref().map(|norm| affine(store, norm)).transpose()?;
    if input_norm.is_some() || norm.is_some() {
        for (output, bias) in bias.iter_mut().enumerate() {
            let mut folded = f64::from(*bias);
            if let Some((_, shift)) = &input_norm {
                let terms = shift.iter().enumerate().map(|(input, shift)| f64::from(stored(output, input)) * shift);
                folded += terms.sum::<f64>();
            }
            if let Some((scale, shift)) = &norm {
                folded = folded * scale[output] + shift[output];
            }
            *bias = folded as f32;
        }
    }

    let places: Vec<(&Columns, usize)> =
        columns.iter().flat_map(|run| (0..run.length).map(move |at| (run, at))).collect();
    let is_stored = norm.is_none() && input_norm.is_none() && columns.iter().all(|run| run.terms.len() == 1);
    let value = |output: usize, input: usize| {
        let (run, at) = places[input];
        let term = |&(start, is_negative): &(usize, bool)| {
            let raw = f64::from(stored(output, start + at));
            let scaled = raw * input_norm.as_ref().map_or(1.0, |(scale, _)| scale[start + at]);
            if is_negative { -scaled } else { scaled }
        };
        (run.terms.iter().map(term).sum::<f64>() * norm.as_ref().map_or(1.0, |(scale, _)| scale[output])) as f32
    };
    let element = match precision {
        Some(precision) => precision.into(),
        None if !is_stored => Element::F32,
        None => element(&tensor)?,
    };
    check_range(&tensor, element, (0..outputs).flat_map(|o| (0..places.len()).map(move |i| (o, i))), value)?;
    Panels::pack(element, places.len(), outputs, value, Some(&bias))
        .map_err(|error| Error::new(ErrorKind::OutOfMemory, tensor.name, error.to_string()))
}

/// Refuses weights that become infinite in `element`.
fn check_range(
    tensor: &Tensor<'_>,
    element: Element,
    places: impl Iterator<Item = (usize, usize)>,
    value: impl Fn(usize, usize) -> f32,
) -> Result<(), Error> {
    let limit = match element {
        Element::F16 => half::f16::MAX.to_f32(),
        Element::Bf16 => half::bf16::MAX.to_f32(),
        Element::F32 => f32::MAX,
    };
    for (output, input) in places {
        let value = value(output, input);
        if value.is_nan() || value.abs() > limit {
            let detail = format!("weight of output {output} is {value}, beyond {element:?}");
            return Err(Error::new(ErrorKind::Tensor, tensor.name, detail));
        }
    }
    Ok(())
}

/// How a weight or table is stored.
pub fn element(tensor: &Tensor<'_>) -> Result<Element, Error> {
    match tensor.dtype {
        Dtype::F32 => Ok(Element::F32),
        Dtype::F16 => Ok(Element::F16),
        Dtype::Bf16 => Ok(Element::Bf16),
        other => Err(Error::new(ErrorKind::Tensor, tensor.name, format!("is {}, not a float type", other.name()))),
    }
}

impl From<Precision> for Element {
    fn from(precision: Precision) -> Element {
        match precision {
            Precision::F32 => Element::F32,
            Precision::F16 => Element::F16,
            Precision::Bf16 => Element::Bf16,
        }
    }
}
