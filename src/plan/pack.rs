//! Dense weights into panels: the columns of one rate, the batch norm folded in, once per open.

use crate::error::{Error, ErrorKind};
use crate::format::{Dtype, Store, Tensor, TensorId};
use crate::network::graph::{Columns, Layer, Norm};
use crate::ops::{Element, Kernels, Panels, Weight};

/// The type in which dense weights are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// IEEE half precision storage, f32 arithmetic.
    F16,
    /// bfloat16 weights and inputs of layers, f32 sums. Faster where the CPU multiplies pairs of them; the bits of a score are
    /// those of the instruction set.
    Bf16,
    /// Integers of 12 bits and a scale per output; inputs as integers of up to 16 bits and a scale per row. Exact sums.
    Int12,
    /// Integers of 14 bits, else as int12: the type for bounds that int12 passes.
    Int16,
    /// Integers of 8 bits and a scale per output; inputs as integers of 8 bits, a scale and a zero per row. Exact sums.
    Int8,
}

impl Precision {
    /// Whether weights are floats.
    pub fn is_float(&self) -> bool {
        matches!(self, Precision::F32 | Precision::F16 | Precision::Bf16)
    }
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

/// In which type `columns` of a layer are held. Without `precision`, weights keep their stored type, but for bf16, and for
/// products and sums of several (a folded norm, a difference), which are new: those are held in f32. So are integers of more
/// inputs than a sum can take.
pub fn weight_type(
    store: &Store,
    layer: &Layer,
    columns: &[Columns],
    precision: Option<Precision>,
) -> Result<Weight, Error> {
    let depth: usize = columns.iter().map(|run| run.length).sum();
    let is_stored =
        layer.norm.is_none() && layer.input_norm.is_none() && columns.iter().all(|run| run.terms.len() == 1);
    let wanted = match (precision, element(&store.tensor(layer.weight))?) {
        (Some(precision), _) => precision.into(),
        (None, Element::F16) if is_stored => Weight::F16,
        (None, _) => Weight::F32,
    };
    Ok(if depth > wanted.max_depth() { Weight::F32 } else { wanted })
}

/// Packs `columns` of a layer of `outputs` outputs.
pub fn pack(
    store: &Store,
    layer: &Layer,
    columns: &[Columns],
    outputs: usize,
    weights: Weight,
    kernels: &Kernels,
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
    let value = |output: usize, input: usize| {
        let (run, at) = places[input];
        let term = |&(start, is_negative): &(usize, bool)| {
            let raw = f64::from(stored(output, start + at));
            let scaled = raw * input_norm.as_ref().map_or(1.0, |(scale, _)| scale[start + at]);
            if is_negative { -scaled } else { scaled }
        };
        (run.terms.iter().map(term).sum::<f64>() * norm.as_ref().map_or(1.0, |(scale, _)| scale[output])) as f32
    };
    check_range(&tensor, weights, (0..outputs).flat_map(|o| (0..places.len()).map(move |i| (o, i))), value)?;
    kernels
        .pack(weights, [places.len(), outputs], value, Some(&bias))
        .map_err(|error| Error::new(ErrorKind::OutOfMemory, tensor.name, error.to_string()))
}

/// Refuses weights that become infinite in their type.
fn check_range(
    tensor: &Tensor<'_>,
    weights: Weight,
    places: impl Iterator<Item = (usize, usize)>,
    value: impl Fn(usize, usize) -> f32,
) -> Result<(), Error> {
    let limit = match weights {
        Weight::F16 => half::f16::MAX.to_f32(),
        Weight::Bf16 => half::bf16::MAX.to_f32(),
        Weight::F32 | Weight::Int12 | Weight::Int16 | Weight::Int8 => f32::MAX,
    };
    for (output, input) in places {
        let value = value(output, input);
        if value.is_nan() || value.abs() > limit {
            let detail = format!("weight of output {output} is {value}, beyond {weights:?}");
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

impl From<Precision> for Weight {
    fn from(precision: Precision) -> Weight {
        match precision {
            Precision::F32 => Weight::F32,
            Precision::F16 => Weight::F16,
            Precision::Bf16 => Weight::Bf16,
            Precision::Int12 => Weight::Int12,
            Precision::Int16 => Weight::Int16,
            Precision::Int8 => Weight::Int8,
        }
    }
}
