//! Dense weights into panels: the columns of one rate, the batch norm folded in, once per open.

use crate::error::{Error, ErrorKind};
use crate::format::{Dtype, Store, Tensor, TensorId};
use crate::network::graph::{Layer, Norm};
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
    let values = |id: TensorId| store.tensor(id).to_f32();
    let (gamma, beta, mean, variance) =
        (values(norm.gamma)?, values(norm.beta)?, values(norm.mean)?, values(norm.variance)?);
    let scale: Vec<f64> = gamma
        .iter()
        .zip(&variance)
        .map(|(gamma, variance)| f64::from(*gamma) / (f64::from(*variance) + norm.epsilon).sqrt())
        .collect();
    let shift = scale.iter().zip(beta.iter().zip(&mean)).map(|(s, (b, m))| f64::from(*b) - f64::from(*m) * s).collect();
    Ok((scale, shift))
}

/// Packs `columns` (start, length) of a layer of `outputs` outputs. Without `precision`, weights keep their stored type,
/// but for a folded batch norm, whose product is new and is held in f32.
pub fn pack(
    store: &Store,
    layer: &Layer,
    columns: &[(usize, usize)],
    outputs: usize,
    precision: Option<Precision>,
) -> Result<Panels, Error> {
    let tensor = store.tensor(layer.weight);
    let weight = tensor.to_f32()?;
    let inputs = tensor.shape[1];
    let bias = match layer.bias {
        Some(id) => store.tensor(id).to_f32()?,
        None => vec![0.0; outputs],
    };
    let (scale, bias) = match &layer.norm {
        None => (None, bias),
        Some(norm) => {
            let (scale, shift) = affine(store, norm)?;
            let folded = |(bias, (scale, shift)): (f32, (&f64, &f64))| (f64::from(bias) * scale + shift) as f32;
            let bias = bias.into_iter().zip(scale.iter().zip(&shift)).map(folded).collect();
            (Some(scale), bias)
        }
    };

    let places: Vec<usize> = columns.iter().flat_map(|(start, length)| *start..start + length).collect();
    let value = |output: usize, input: usize| {
        let raw = weight[output * inputs + places[input]];
        match &scale {
            None => raw,
            Some(scale) => (f64::from(raw) * scale[output]) as f32,
        }
    };
    let element = match precision {
        Some(precision) => precision.into(),
        None if layer.norm.is_some() => Element::F32,
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
