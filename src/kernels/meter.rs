//! How fast the dense kernels are, as shares of what the CPU gives at most: `polyscore kernels`.
//!
//! The ceiling is a loop of fused multiply-adds that touches registers alone. It is measured beside each kernel, because
//! clocks drift; both are medians.

use super::panels::{LINE, Weight};
use super::{Activation, Dense, Kernels, Span, Start};
use std::time::Instant;

/// One kernel on one shape.
pub struct Measured {
    /// The name of the kernel, as `inspect` prints it.
    pub kernel: &'static str,
    pub rows: usize,
    /// Billions of operations a second, a multiplication and an addition being two.
    pub speed: f64,
    /// The speed over that of the register loop.
    pub share: f64,
    /// Billions of bytes of weights read a second.
    pub bandwidth: f64,
}

/// Turns of the register loop.
const TURNS: usize = 20_000;

/// Measures the kernels of `kernels` for weights of a type, `inputs` by `outputs`, on each number of rows. The weights are
/// read from the nearest cache that holds them.
///
/// # Errors
/// If the weights do not fit into memory.
pub fn measure(
    kernels: &'static Kernels,
    weight_type: Weight,
    [inputs, outputs]: [usize; 2],
    rows: &[usize],
) -> Result<Vec<Measured>, super::panels::OutOfMemory> {
    let weight = |column: usize, k: usize| ((column * 7 + k * 13) % 32) as f32 / 32.0 - 0.5;
    let weights = kernels.pack(weight_type, [inputs, outputs], weight, None)?;
    let most = rows.iter().copied().max().unwrap_or(0);
    let input = Span { offset: 0, stride: inputs.next_multiple_of(16), width: inputs };
    let output = Span { offset: most * input.stride, stride: outputs.next_multiple_of(16), width: outputs };
    let width = weight_type.scratch(inputs, most);
    let scratch = Span { offset: output.offset + most * output.stride, stride: 0, width };
    let mut memory = vec![0.5f32; scratch.offset + width + LINE / size_of::<f32>()];
    // As a scorer's.
    let first = memory.as_ptr().align_offset(LINE);
    let memory = &mut memory[first..];
    let mut measured = Vec::new();
    for &rows in rows {
        let once = 2.0 * (rows * inputs * outputs) as f64;
        let repeats = (4e7 / once).ceil() as usize;
        let (mut speeds, mut ceilings) = (Vec::new(), Vec::new());
        for _ in 0..15 {
            let start = Instant::now();
            for _ in 0..repeats {
                let (start, activation) = (Start::Bias, Activation::Relu);
                let (reach, is_quantized) = (weights.reach(), false);
                let weights = &weights;
                let addend = None;
                let call = Dense { input, weights, start, addend, output, activation, scratch, reach, is_quantized };
                kernels.dense(memory, rows, &call);
            }
            speeds.push(once * repeats as f64 / start.elapsed().as_secs_f64() / 1e9);
            ceilings.push(ceiling(kernels));
        }
        let (speed, ceiling) = (median(&mut speeds), median(&mut ceilings));
        measured.push(Measured {
            kernel: kernels.dense_name(weight_type, rows),
            rows,
            speed,
            share: speed / ceiling,
            bandwidth: speed / once * weights.bytes() as f64,
        });
    }
    Ok(measured)
}

/// Billions of operations a second of the register loop.
fn ceiling(kernels: &Kernels) -> f64 {
    let start = Instant::now();
    let operations = kernels.spin(TURNS);
    operations as f64 / start.elapsed().as_secs_f64() / 1e9
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
