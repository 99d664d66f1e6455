//! Dense weights into panels: the columns of one rate, the batch norm folded in, once per open, or read as a file holds them.

use crate::error::{Error, ErrorKind};
use crate::format::{self, Dtype, Integer, Store, Tensor, TensorId};
use crate::network::graph::{Columns, Layer, Norm};
use crate::ops::{Element, Kernels, Panels, Unfit, Weight};
use xxhash_rust::xxh64::Xxh64;

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
    /// Integers of 12 bits or more, up to 15, and a scale per output; inputs as integers of up to 16 bits and a scale per row. Exact
    /// sums that fit 32 bits: a layer of many inputs has fewer bits.
    Int12,
    /// Integers of 15 bits, whose sums are carried, else as int12: the type for bounds that int12 passes.
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
/// floats that are products and sums of several (a folded norm, a difference), which are new: those are held in f32. So are
/// integers of a layer whose outputs are logits, and of more inputs than a sum can take.
pub fn weight_type(
    store: &Store,
    layer: &Layer,
    columns: &[Columns],
    precision: Option<Precision>,
    is_logits: bool,
) -> Result<Weight, Error> {
    let depth: usize = columns.iter().map(|run| run.length).sum();
    let precision = precision.filter(|precision| precision.is_float() || !is_logits);
    let tensor = store.tensor(layer.weight);
    let wanted = match (precision, integer(&tensor, layer)) {
        (Some(precision), _) => precision.into(),
        (None, Some(Integer::Int8)) if !is_logits => Weight::Int8,
        (None, Some(Integer::Int12)) if !is_logits => Weight::Int12,
        (None, Some(Integer::Int16)) if !is_logits => Weight::Int16,
        (None, None) if tensor.dtype == Dtype::F16 && layer.norm.is_none() && is_stored(layer, columns) => Weight::F16,
        (None, _) => Weight::F32,
    };
    Ok(if depth > wanted.max_depth() { Weight::F32 } else { wanted })
}

/// The integers of the weight of a layer.
fn integer(tensor: &Tensor<'_>, layer: &Layer) -> Option<Integer> {
    tensor.integer(usize::from(layer.is_transposed))
}

/// Whether every weight is a stored one, but for a factor of its output.
fn is_stored(layer: &Layer, columns: &[Columns]) -> bool {
    layer.input_norm.is_none() && columns.iter().all(|run| run.terms.len() == 1)
}

/// The weights of a layer as the file has them.
enum Stored {
    Floats(Vec<f32>),
    /// Of a type, with a scale for each output.
    Integers(Integer, Vec<i16>, Vec<f32>),
}

/// A layer as the file has it, and the norms that it carries.
pub struct Folded<'a> {
    tensor: Tensor<'a>,
    layer: &'a Layer,
    stored: Stored,
    inputs: usize,
    /// With what the shifts of the norms add to it.
    pub bias: Vec<f32>,
    input_scale: Option<Vec<f64>>,
    scale: Option<Vec<f64>>,
}

impl<'a> Folded<'a> {
    /// Reads a layer of `outputs` outputs.
    ///
    /// # Errors
    /// `Tensor` for a type that is no layer's.
    pub fn read(store: &'a Store, layer: &'a Layer, outputs: usize) -> Result<Folded<'a>, Error> {
        let tensor = store.tensor(layer.weight);
        let stored = match (store.scale(layer.weight), integer(&tensor, layer)) {
            (Some(scale), Some(of)) => Stored::Integers(of, tensor.to_integers()?, store.tensor(scale).to_f32()?),
            _ => Stored::Floats(tensor.to_f32()?),
        };
        let inputs = tensor.shape[usize::from(!layer.is_transposed)];
        let bias = match layer.bias {
            Some(id) => store.tensor(id).to_f32()?,
            None => vec![0.0; outputs],
        };
        let input_norm = layer.input_norm.as_ref().map(|norm| affine(store, norm)).transpose()?;
        let norm = layer.norm.as_ref().map(|norm| affine(store, norm)).transpose()?;
        let mut folded = Folded { tensor, layer, stored, inputs, bias, input_scale: None, scale: None };
        for output in 0..outputs {
            let mut bias = f64::from(folded.bias[output]);
            if let Some((_, shift)) = &input_norm {
                let terms =
                    shift.iter().enumerate().map(|(input, shift)| f64::from(folded.stored(output, input)) * shift);
                bias += terms.sum::<f64>();
            }
            if let Some((scale, shift)) = &norm {
                bias = bias * scale[output] + shift[output];
            }
            folded.bias[output] = bias as f32;
        }
        folded.input_scale = input_norm.map(|(scale, _)| scale);
        folded.scale = norm.map(|(scale, _)| scale);
        Ok(folded)
    }

    fn place(&self, output: usize, input: usize) -> usize {
        match self.layer.is_transposed {
            false => output * self.inputs + input,
            true => input * self.bias.len() + output,
        }
    }

    fn stored(&self, output: usize, input: usize) -> f32 {
        let place = self.place(output, input);
        match &self.stored {
            Stored::Floats(values) => values[place],
            Stored::Integers(_, integers, scales) => f32::from(integers[place]) * scales[output],
        }
    }

    /// What an output is multiplied by.
    fn factor(&self, output: usize) -> f64 {
        self.scale.as_ref().map_or(1.0, |scale| scale[output])
    }

    /// Packs `columns` of the layer. Stored integers are packed as they are, if the type holds them and they are not summed or
    /// multiplied by factors of their inputs; a factor of an output becomes one of its scale.
    ///
    /// # Errors
    /// `Tensor` for weights that the type cannot hold, `OutOfMemory`.
    pub fn pack(&self, columns: &[Columns], weights: Weight, kernels: &Kernels) -> Result<Panels, Error> {
        let Folded { tensor, layer, bias, .. } = self;
        let places: Vec<(&Columns, usize)> =
            columns.iter().flat_map(|run| (0..run.length).map(move |at| (run, at))).collect();
        let value = |output: usize, input: usize| {
            let (run, at) = places[input];
            let term = |&(start, is_negative): &(usize, bool)| {
                let raw = f64::from(self.stored(output, start + at));
                let scaled = raw * self.input_scale.as_ref().map_or(1.0, |scale| scale[start + at]);
                if is_negative { -scaled } else { scaled }
            };
            (run.terms.iter().map(term).sum::<f64>() * self.factor(output)) as f32
        };
        let shape = [places.len(), bias.len()];
        let out_of_memory = |error| Error::new(ErrorKind::OutOfMemory, tensor.name, format!("{error}"));
        if let Stored::Integers(of, integers, scales) = &self.stored
            && is_stored(layer, columns)
            && holds(weights, *of)
        {
            let scale = |(output, scale): (usize, &f32)| (f64::from(*scale) * self.factor(output).abs()) as f32;
            let scales: Vec<f32> = scales.iter().enumerate().map(scale).collect();
            if let Some(output) = scales.iter().position(|scale| !scale.is_finite()) {
                let detail = format!("the scale of output {output} is infinite behind its norm");
                return Err(Error::new(ErrorKind::Tensor, tensor.name, detail));
            }
            let integer = |output: usize, input: usize| {
                let (run, at) = places[input];
                let (start, is_negative) = run.terms[0];
                let stored = i32::from(integers[self.place(output, start + at)]);
                if is_negative != (self.factor(output) < 0.0) { -stored } else { stored }
            };
            return kernels.pack_integers(weights, shape, integer, &scales, Some(bias)).map_err(out_of_memory);
        }
        check_range(tensor, weights, (0..shape[1]).flat_map(|o| (0..shape[0]).map(move |i| (o, i))), value)?;
        kernels.pack(weights, shape, value, Some(bias)).map_err(out_of_memory)
    }
}

/// Whether a type of weights holds stored integers as they are.
fn holds(weights: Weight, stored: Integer) -> bool {
    match weights {
        Weight::F32 | Weight::F16 | Weight::Bf16 => false,
        Weight::Int8 => stored == Integer::Int8,
        Weight::Int12 => matches!(stored, Integer::Int8 | Integer::Int12),
        Weight::Int16 => matches!(stored, Integer::Int8 | Integer::Int12 | Integer::Int16),
    }
}

/// How panels are made and laid out: another number where the same layer would have other bytes.
const LAYOUT: u64 = 3;

/// The name of the tensor that holds `columns` of a layer as panels: it says what they are made of.
pub fn packed_name(store: &Store, layer: &Layer, columns: &[Columns], weights: Weight) -> String {
    let mut hash = Xxh64::new(LAYOUT);
    let number = |hash: &mut Xxh64, number: usize| hash.update(&(number as u64).to_le_bytes());
    let tensor = |hash: &mut Xxh64, id: Option<TensorId>| match id.map(|id| store.tensor(id)) {
        Some(tensor) => {
            hash.update(tensor.dtype.name().as_bytes());
            [tensor.shape.len()].iter().chain(tensor.shape).for_each(|length| number(hash, *length));
            hash.update(tensor.bytes);
        }
        None => hash.update(b"none"),
    };
    hash.update(format!("{weights:?}").as_bytes());
    number(&mut hash, usize::from(layer.is_transposed));
    tensor(&mut hash, Some(layer.weight));
    tensor(&mut hash, store.scale(layer.weight));
    tensor(&mut hash, layer.bias);
    for norm in [&layer.input_norm, &layer.norm] {
        let Some(norm) = norm else {
            hash.update(b"none");
            continue;
        };
        for id in [norm.gamma, norm.beta, Some(norm.mean), Some(norm.variance)] {
            tensor(&mut hash, id);
        }
        hash.update(&norm.epsilon.to_le_bytes());
    }
    for run in columns {
        number(&mut hash, run.length);
        number(&mut hash, run.terms.len());
        for (start, is_negative) in &run.terms {
            number(&mut hash, *start);
            number(&mut hash, usize::from(*is_negative));
        }
    }
    format::packed_name(hash.digest())
}

/// The panels of `shape`, inputs and outputs, that a file holds under `name`; `None` if it does not.
///
/// # Errors
/// `Tensor` for a tensor that holds no such panels, `OutOfMemory`.
pub fn packed(
    store: &Store,
    name: &str,
    weights: Weight,
    shape: [usize; 2],
    kernels: &Kernels,
) -> Result<Option<Panels>, Error> {
    let Some(id) = store.find(name) else { return Ok(None) };
    if store.tensor(id).dtype != Dtype::U8 {
        return Err(store.tensor(id).wrong_type("U8"));
    }
    kernels.packed(weights, shape, store.shared(id)).map(Some).map_err(|unfit| {
        let kind = if matches!(unfit, Unfit::OutOfMemory(_)) { ErrorKind::OutOfMemory } else { ErrorKind::Tensor };
        Error::new(kind, name, unfit.to_string())
    })
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

/// How a table is stored.
pub fn element(tensor: &Tensor<'_>) -> Result<Element, Error> {
    match tensor.dtype {
        Dtype::F32 => Ok(Element::F32),
        Dtype::F16 => Ok(Element::F16),
        Dtype::Bf16 => Ok(Element::Bf16),
        Dtype::I8 => Ok(Element::Int8),
        Dtype::U8 => Ok(Element::Int4),
        other => Err(Error::new(ErrorKind::Tensor, tensor.name, format!("is {}, not a table's type", other.name()))),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{StoreOptions, write};

    const OUTPUTS: usize = 3;
    const INPUTS: usize = 5;
    const SCALES: [f32; OUTPUTS] = [0.5, 0.013, 2.0];

    /// Beyond int12 for int16.
    fn integer(of: Integer, output: usize, input: usize) -> i32 {
        let integer = (output * INPUTS + input) as i32 * 13 % 200 - 100;
        if of == Integer::Int16 { integer * 80 } else { integer }
    }

    /// A layer of integers `[outputs, inputs]`, and transposed, and the statistics of a norm.
    fn store(test: &str, of: Integer) -> Store {
        let dtype = of.dtype();
        let bytes = |value: i32| match dtype {
            Dtype::I8 => vec![value as u8],
            _ => (value as i16).to_le_bytes().to_vec(),
        };
        let places = |rows: usize, columns: usize| (0..rows * columns).map(move |at| (at / columns, at % columns));
        let layer: Vec<u8> =
            places(OUTPUTS, INPUTS).flat_map(|(output, input)| bytes(integer(of, output, input))).collect();
        let turned: Vec<u8> =
            places(INPUTS, OUTPUTS).flat_map(|(input, output)| bytes(integer(of, output, input))).collect();
        let f32s = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let floats = [
            ("layer.scale", f32s(&SCALES)),
            ("turned.scale", f32s(&SCALES)),
            ("gamma", f32s(&[1.5, -0.25, 0.0])),
            ("mean", f32s(&[0.0; OUTPUTS])),
            ("variance", f32s(&[1.0; OUTPUTS])),
            ("input_gamma", f32s(&[1.0, 0.5, -2.0, 1.0, 1.0])),
            ("input_mean", f32s(&[0.0; INPUTS])),
            ("input_variance", f32s(&[1.0; INPUTS])),
        ];
        let shapes: Vec<[usize; 1]> = floats.iter().map(|(_, bytes)| [bytes.len() / 4]).collect();
        let mut tensors = vec![
            Tensor { name: "layer", dtype, shape: &[OUTPUTS, INPUTS], bytes: &layer },
            Tensor { name: "turned", dtype, shape: &[INPUTS, OUTPUTS], bytes: &turned },
        ];
        let of = floats.iter().zip(&shapes);
        tensors.extend(of.map(|((name, bytes), shape)| Tensor { name, dtype: Dtype::F32, shape, bytes }));
        let name = format!("polyscore-pack-{test}-{}.safetensors", std::process::id());
        let path = std::env::temp_dir().join(name);
        write(&path, "{}", &tensors).unwrap();
        let store = Store::open(&path, &StoreOptions::default()).unwrap();
        std::fs::remove_file(&path).unwrap();
        store
    }

    fn norm(store: &Store, prefix: &str) -> Norm {
        let find = |name: &str| store.find(&format!("{prefix}{name}")).unwrap();
        Norm { gamma: Some(find("gamma")), beta: None, mean: find("mean"), variance: find("variance"), epsilon: 0.0 }
    }

    fn layer(store: &Store, is_transposed: bool) -> Layer {
        let weight = store.find(if is_transposed { "turned" } else { "layer" }).unwrap();
        Layer { weight, is_transposed, bias: None, norm: None, input_norm: None }
    }

    #[test]
    fn stored_integers_are_packed_as_they_are() {
        let kernels = Kernels::select(None).unwrap();
        let columns = [Columns { length: 2, terms: vec![(3, false)] }, Columns { length: 2, terms: vec![(1, true)] }];
        for (of, weights) in [
            (Integer::Int8, Weight::Int8),
            (Integer::Int8, Weight::Int12),
            (Integer::Int8, Weight::Int16),
            (Integer::Int12, Weight::Int12),
            (Integer::Int12, Weight::Int16),
            (Integer::Int16, Weight::Int16),
        ] {
            let store = store("stored", of);
            let expected = |output: usize, k: usize| match k {
                0 | 1 => integer(of, output, 3 + k),
                _ => -integer(of, output, 1 + k - 2),
            };
            for (is_transposed, is_normed) in [(false, false), (true, false), (false, true), (true, true)] {
                let norm = is_normed.then(|| norm(&store, ""));
                let layer = Layer { norm, ..layer(&store, is_transposed) };
                let panels = Folded::read(&store, &layer, OUTPUTS).unwrap().pack(&columns, weights, kernels).unwrap();
                let gamma: [f32; OUTPUTS] = if is_normed { [1.5, -0.25, 0.0] } else { [1.0; OUTPUTS] };
                for output in 0..OUTPUTS {
                    assert_eq!(panels.scales()[output], SCALES[output] * gamma[output].abs());
                    for k in 0..4 {
                        let sign = if gamma[output] < 0.0 { -1 } else { 1 };
                        let what = (of, weights, is_transposed, is_normed, output, k);
                        assert_eq!(panels.weight(output, k), (sign * expected(output, k)) as f32, "{what:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn sums_and_factors_of_inputs_are_packed_by_their_values() {
        let kernels = Kernels::select(None).unwrap();
        let store = store("sums", Integer::Int8);
        let all = [Columns { length: INPUTS, terms: vec![(0, false)] }];
        let difference = [Columns { length: 2, terms: vec![(0, false), (2, true)] }];
        let normed = Layer { input_norm: Some(norm(&store, "input_")), ..layer(&store, false) };
        let gamma = [1.0, 0.5, -2.0, 1.0, 1.0];
        let scaled = |output: usize, input: usize| integer(Integer::Int8, output, input) as f32 * SCALES[output];
        let panels = Folded::read(&store, &normed, OUTPUTS).unwrap().pack(&all, Weight::F32, kernels).unwrap();
        let plain = layer(&store, false);
        let sums = Folded::read(&store, &plain, OUTPUTS).unwrap().pack(&difference, Weight::F32, kernels).unwrap();
        // Of more bits than the type holds: packed anew.
        let finer = self::store("sums", Integer::Int12);
        let coarse = Folded::read(&finer, &plain, OUTPUTS).unwrap().pack(&all, Weight::Int8, kernels).unwrap();
        for output in 0..OUTPUTS {
            for (input, gamma) in gamma.into_iter().enumerate() {
                assert_eq!(panels.weight(output, input), scaled(output, input) * gamma);
                let value = coarse.weight(output, input) * coarse.scales()[output];
                assert!((value - scaled(output, input)).abs() <= 0.5001 * coarse.scales()[output]);
            }
            let largest = (0..INPUTS).map(|input| coarse.weight(output, input).abs()).fold(0.0, f32::max);
            assert_eq!(largest, 127.0);
            for k in 0..2 {
                assert!((sums.weight(output, k) - (scaled(output, k) - scaled(output, k + 2))).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn integers_stay_unless_their_outputs_are_logits() {
        let columns = [Columns { length: INPUTS, terms: vec![(0, false)] }];
        for (of, weight) in [(Integer::Int8, Weight::Int8), (Integer::Int12, Weight::Int12)] {
            let store = store("type", of);
            let layer = layer(&store, false);
            let typed = |precision, is_logits| weight_type(&store, &layer, &columns, precision, is_logits).unwrap();
            assert_eq!([typed(None, false), typed(None, true)], [weight, Weight::F32]);
            assert_eq!(typed(Some(Precision::F16), true), Weight::F16);
            assert_eq!(
                [typed(Some(Precision::Int12), false), typed(Some(Precision::Int12), true)],
                [Weight::Int12, Weight::F32]
            );
            let deep = [Columns { length: weight.max_depth() + 1, terms: vec![(0, false)] }];
            assert_eq!(weight_type(&store, &layer, &deep, None, false).unwrap(), Weight::F32);
        }
    }
}
