//! Functions of elements and of rows, and the rows of tables.

use super::{
    ACTIVATIONS, COMBINATIONS, EDGES, ELEMENTS, GUARD, WIDTHS, assert_near, assert_same, compare, magnitude, memory,
    paint, row, span, sum_of_products, ulps,
};
use crate::kernels::{Activation, Combine, Element, Kernels, Pooling, Span, Table, Unpack};

#[test]
fn elementwise_has_the_bits_of_the_truth() {
    for width in WIDTHS {
        for rows in [1, 2, 5] {
            let edges = (0..rows * (width + 1)).map(|place| EDGES[place % EDGES.len()] * [1.0, 0.37][place / 22 % 2]);
            let mut start: Vec<f32> = edges.collect();
            let painted = start.len();
            start.resize(painted + 2 + rows * (width + 2), GUARD);
            let (input, output) = (span(0, width + 1, width), span(painted + 2, width + 2, width));
            for activation in ACTIVATIONS {
                let what = (width, rows, activation);
                compare(&what, &start, |set, memory| set.unary(memory, rows, activation, input, output));
                if activation != Activation::Identity {
                    let start = memory(painted, painted);
                    compare(&what, &start, |set, memory| set.unary(memory, rows, activation, input, input));
                }
            }
            for how in COMBINATIONS {
                for right in [input, Span { stride: 0, ..input }, span(1, 0, 1), span(0, 1, 1)] {
                    for activation in [Activation::Identity, Activation::Relu, Activation::Tanh] {
                        compare(&(width, rows, how, activation), &start, |set, memory| {
                            set.combine(memory, rows, how, input, right, activation, output);
                        });
                    }
                }
            }
            let start_in_place = memory(start.len(), start.len());
            for (how, target) in [Combine::Add, Combine::Divide].into_iter().flat_map(|h| [(h, input), (h, output)]) {
                compare(&(width, rows, how, "in place"), &start_in_place, |set, memory| {
                    set.combine(memory, rows, how, input, output, Activation::Identity, target);
                });
            }
            let (scale, shift): (Vec<f32>, Vec<f32>) = (0..width).map(|c| (paint(c), paint(c * 5))).unzip();
            compare(&(width, rows, "affine"), &start, |set, memory| {
                set.affine(memory, rows, input, &scale, &shift, output);
            });
            compare(&(width, rows, "copy"), &start, |set, memory| set.copy(memory, rows, input, output));
        }
    }
}

#[test]
fn softmax_and_mixture_have_the_bits_of_the_truth() {
    for width in WIDTHS {
        for rows in [1, 3, 8] {
            let painted = rows * width * 3 + 16;
            let start = memory(painted, painted + rows * width);
            let (input, output) = (span(0, width, width), span(painted, width, width));
            compare(&(width, rows, "softmax"), &start, |set, memory| set.softmax(memory, rows, input, output));
            compare(&(width, rows, "softmax in place"), &start, |set, memory| set.softmax(memory, rows, input, input));
            let experts = [span(1, width, width), span(rows * width, width, width), span(4, 0, width)];
            let gate = span(2, 1, 3);
            for is_softmax in [false, true] {
                compare(&(width, rows, is_softmax, "mixture"), &start, |set, memory| {
                    set.mixture(memory, rows, gate, is_softmax, &experts, output);
                });
            }
            let shares = span(start.len(), 3, 3);
            let longer = [&start[..], &vec![0.0; rows * 3]].concat();
            for kernels in Kernels::available() {
                let [mut apart, mut fused] = [longer.clone(), longer.clone()];
                kernels.softmax(&mut apart, rows, gate, shares);
                kernels.mixture(&mut apart, rows, shares, false, &experts, output);
                kernels.mixture(&mut fused, rows, gate, true, &experts, output);
                assert_same(kernels.name(), &(width, rows, "fused"), &fused[..start.len()], &apart[..start.len()]);
            }
        }
    }
}

#[test]
fn softmax_sums_to_one_at_every_scale() {
    for kernels in Kernels::available() {
        for scale in [1e-6, 1.0, 30.0, 1e30] {
            let mut memory: Vec<f32> = (0..37).map(|place| paint(place * 11) * scale).collect();
            kernels.softmax(&mut memory, 1, span(0, 37, 37), span(0, 37, 37));
            let sum: f64 = memory.iter().map(|e| f64::from(*e)).sum();
            assert!((sum - 1.0).abs() < 1e-6, "{} {scale}: {sum}", kernels.name());
        }
    }
}

#[test]
fn norms_have_the_bits_of_the_truth() {
    for width in WIDTHS {
        for rows in [1, 2, 5] {
            let painted = rows * (width + 1);
            let start = memory(painted, painted + 2 + rows * (width + 2));
            // Among more than one row, the first is zeros.
            let edges = start.iter().enumerate().map(|(place, x)| match place {
                _ if rows > 1 && place < width => 0.0,
                _ if place < painted && place % 3 == 0 => EDGES[(place + 10) % EDGES.len()],
                _ => *x,
            });
            let edges: Vec<f32> = edges.collect();
            let output = span(painted + 2, width + 2, width);
            let (scale, shift): (Vec<f32>, Vec<f32>) = (0..width).map(|c| (paint(c + 1), paint(c * 5 + 2))).unzip();
            for start in [start, edges] {
                for (input, output) in [
                    (span(0, width + 1, width), output),
                    (span(1, 0, width), output),
                    (span(0, width + 1, width), span(0, width + 1, width)),
                ] {
                    compare(&(width, rows, input, "layer norm"), &start, |set, memory| {
                        set.layer_norm(memory, rows, input, &scale, &shift, 1e-5, output);
                    });
                    compare(&(width, rows, input, "normalize"), &start, |set, memory| {
                        set.normalize(memory, rows, input, 1e-12, output);
                    });
                }
            }
        }
    }
}

#[test]
fn layer_norm_follows_the_formula() {
    for (kernels, width) in Kernels::available().flat_map(|kernels| WIDTHS.map(|width| (kernels, width))) {
        let (rows, epsilon) = (3, 1e-3);
        let (input, output) = (span(0, width, width), span(rows * width, width, width));
        let (scale, shift): (Vec<f32>, Vec<f32>) = (0..width).map(|c| (paint(c * 3), paint(c * 5))).unzip();
        let mut memory = memory(rows * width, 2 * rows * width);
        kernels.layer_norm(&mut memory, rows, input, &scale, &shift, epsilon, output);
        for r in 0..rows {
            let x = row(&memory, input, r);
            let mean = x.iter().sum::<f64>() / width as f64;
            let centred: Vec<f64> = x.iter().map(|x| x - mean).collect();
            let deviation = (sum_of_products(&centred, &centred) / width as f64 + f64::from(epsilon)).sqrt();
            for c in 0..width {
                let (scale, shift) = (f64::from(scale[c]), f64::from(shift[c]));
                let magnitude = (x[c].abs() + mean.abs()) / deviation * scale.abs() + shift.abs();
                let actual = memory[output.offset + r * width + c];
                let expected = centred[c] / deviation * scale + shift;
                assert_near(&(kernels.name(), width, r, c), actual, expected, magnitude);
            }
        }
    }
}

#[test]
fn normalize_gives_rows_of_length_one_and_keeps_zeros() {
    for (kernels, width) in Kernels::available().flat_map(|kernels| WIDTHS.map(|width| (kernels, width))) {
        let (input, output) = (span(0, width, width), span(2 * width, width, width));
        let mut memory = memory(width, 4 * width);
        memory[width..2 * width].fill(0.0);
        kernels.normalize(&mut memory, 2, input, 1e-12, output);
        let (x, y) = (row(&memory, input, 0), row(&memory, output, 0));
        let norm = sum_of_products(&x, &x).sqrt();
        for c in 0..width {
            assert!(ulps(memory[output.offset + c], x[c] / norm) <= 3.0, "{} {width} {c}", kernels.name());
        }
        assert!((sum_of_products(&y, &y) - 1.0).abs() < 1e-6, "{} {width}", kernels.name());
        assert!(memory[3 * width..].iter().all(|zero| zero.to_bits() == 0), "{} {width}", kernels.name());
    }
}

#[test]
fn dot_has_the_bits_of_the_truth() {
    for width in WIDTHS {
        for (groups, rows) in [(1, 1), (2, 3), (3, 2), (7, 5)] {
            let whole = groups * width;
            let painted = 2 * rows * (whole + 1) + 3;
            let output = span(painted + 1, groups + 1, groups);
            let start = memory(painted, painted + 1 + rows * (groups + 1));
            let edges: Vec<f32> = (0..start.len()).map(|place| EDGES[place * 5 % EDGES.len()]).collect();
            let left = span(2, whole + 1, whole);
            for right in [left, span(3 + rows * (whole + 1), whole, whole), span(0, 0, whole)] {
                for start in [&start, &edges] {
                    compare(&(width, groups, rows, right), start, |set, memory| {
                        set.dot(memory, rows, left, right, groups, output);
                    });
                }
            }
        }
    }
}

#[test]
fn dot_follows_the_formula() {
    for (kernels, width) in Kernels::available().flat_map(|kernels| WIDTHS.map(|width| (kernels, width))) {
        let (rows, groups) = (3, 4);
        let whole = groups * width;
        let (left, right) = (span(0, whole, whole), span(rows * whole, 0, whole));
        let output = span((rows + 1) * whole, groups, groups);
        let mut memory = memory((rows + 1) * whole, (rows + 1) * whole + rows * groups);
        kernels.dot(&mut memory, rows, left, right, groups, output);
        for (r, group) in (0..rows).flat_map(|r| (0..groups).map(move |group| (r, group))) {
            let part = group * width..(group + 1) * width;
            let (x, y) = (&row(&memory, left, r)[part.clone()], &row(&memory, right, r)[part]);
            let actual = memory[output.offset + r * groups + group];
            assert_near(&(kernels.name(), width, r, group), actual, sum_of_products(x, y), magnitude(x, y));
        }
    }
}

/// Widths of rows of an element.
fn widths(element: Element) -> [usize; WIDTHS.len()] {
    WIDTHS.map(|width| if element == Element::Int4 { width.next_multiple_of(2) } else { width })
}

fn table(element: Element, rows: usize, width: usize) -> Vec<u8> {
    let value = |place: usize| EDGES.get(place).copied().unwrap_or_else(|| paint(place));
    match element {
        Element::F32 => (0..rows * width).flat_map(|place| value(place).to_le_bytes()).collect(),
        Element::F16 => (0..rows * width).flat_map(|place| half::f16::from_f32(value(place)).to_le_bytes()).collect(),
        Element::Bf16 => (0..rows * width).flat_map(|place| half::bf16::from_f32(value(place)).to_le_bytes()).collect(),
        // Every byte, and with it every pair of halves, in an order of its own.
        Element::Int8 | Element::Int4 => {
            (0..element.row_bytes(rows * width)).map(|place| (place * 167) as u8).collect()
        }
    }
}

/// A scale for each row, behind an odd byte: among them none, a denormal and one whose products are.
fn scales(rows: usize) -> Vec<u8> {
    let scale = |row: usize| [0.0, 1e-40, 1e-38, 0.007_3, 3.3].get(row).copied().unwrap_or(0.01 + paint(row).abs());
    std::iter::once(0).chain((0..rows).flat_map(|row| scale(row).to_le_bytes())).collect()
}

#[test]
fn gathers_have_the_bits_of_the_truth() {
    let scales = scales(23);
    for element in ELEMENTS {
        for width in widths(element) {
            let bytes = table(element, 23, width);
            // The first row begins at an odd address: tables are read unaligned.
            let shifted: Vec<u8> = std::iter::once(0).chain(bytes.iter().copied()).collect();
            let scales = if element.is_scaled() { &scales[1..] } else { &[] };
            let table = Table { bytes: &shifted[1..], scales, element, rows: 23, width };
            let ids: Vec<u32> = (0..29).map(|i| (i * 7 + 22) % 23).collect();
            let output = span(1, width + 1, width);
            let start = memory(0, 2 + 29 * (width + 1));
            compare(&(element, width, "gather"), &start, |set, memory| set.gather(memory, table, &ids, output));
            compare(&(element, width, "sum"), &start, |set, memory| set.sum_rows(memory, table, &ids, output));
            compare(&(element, width, "no sum"), &start, |set, memory| set.sum_rows(memory, table, &[], output));
            for pooling in [Pooling::Sum, Pooling::Mean, Pooling::Max] {
                let offsets = [0, 1, 1, 4, 20, 29];
                compare(&(element, width, pooling), &start, |set, memory| {
                    set.gather_pooled(memory, table, &ids, &offsets, pooling, output);
                });
            }
        }
    }
}

#[test]
fn parts_of_packed_rows_have_the_bits_of_the_truth() {
    let scales = scales(30);
    for element in ELEMENTS {
        for width in widths(element) {
            let (bytes, start) = (table(element, 30, width), 3);
            let row = |(row, bytes): (usize, &[u8])| {
                let scale = &scales[1..][4 * row..][..element.scale_bytes()];
                [&[7; 3], scale, bytes].concat()
            };
            let packed: Vec<Vec<u8>> = bytes.chunks(element.row_bytes(width)).enumerate().map(row).collect();
            let packed: Vec<&[u8]> = packed.iter().map(Vec::as_slice).collect();
            for rows in [&packed[..1], &packed[..2], &packed[..5], &packed] {
                let output = span(rows.len() * width + width, width + 1, width);
                let painted = output.offset + rows.len() * (width + 1);
                let memory = memory(painted, painted + width);
                // The first elements are zeros, which change nothing in place.
                let in_place = Some(output).filter(|_| rows.len() > 2);
                for addend in [None, Some(span(0, 0, width)), Some(span(1, width, width)), in_place] {
                    for activation in [Activation::Identity, Activation::Relu, Activation::Gelu] {
                        let unpack = Unpack { rows, element, start, addend, activation, output };
                        let what = (element, width, rows.len(), addend, activation);
                        compare(&what, &memory, |set, memory| set.unpack(memory, &unpack));
                    }
                }
            }
        }
    }
}

#[test]
fn packed_rows_that_end_too_early_are_refused() {
    let unpack = |length: usize, start| {
        let (row, output) = (vec![0; length], span(0, 8, 8));
        let (element, activation) = (Element::Int8, Activation::Identity);
        let rows: &[&[u8]] = &[&[0; 64], &row];
        let call = Unpack { rows, element, start, addend: None, activation, output };
        let kernels = Kernels::select(None).expect("a set");
        let call = || kernels.unpack(&mut [0.0; 16], &call);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_ok()
    };
    assert!(unpack(12, 0) && unpack(17, 5));
    assert!(!unpack(11, 0) && !unpack(16, 5) && !unpack(64, usize::MAX));
}

#[test]
fn integers_of_every_value_are_widened_and_scaled() {
    let scale = 0.3f32;
    for kernels in Kernels::available() {
        for (element, width) in [(Element::Int8, 256), (Element::Int4, 512)] {
            let bytes: Vec<u8> = (0..=255).collect();
            let table = Table { bytes: &bytes, scales: &scale.to_le_bytes(), element, rows: 1, width };
            let mut memory = vec![GUARD; width + 1];
            kernels.gather(&mut memory, table, &[0], span(0, width, width));
            for (byte, values) in (0..=255u8).zip(memory.chunks(width / 256)) {
                let integers = match element {
                    Element::Int8 => vec![byte as i8],
                    _ => vec![((byte << 4) as i8) >> 4, (byte as i8) >> 4],
                };
                let expected: Vec<f32> = integers.into_iter().map(|integer| f32::from(integer) * scale).collect();
                assert_eq!(values, expected, "{} {element:?} {byte}", kernels.name());
            }
            assert_eq!(memory[width], GUARD);
        }
    }
}

#[test]
fn tables_without_all_their_scales_are_refused() {
    let gather = |scales: &[u8], element, width| {
        let table = Table { bytes: &[0; 64], scales, element, rows: 4, width };
        let kernels = Kernels::select(None).expect("a set");
        let call = || kernels.gather(&mut [0.0; 16], table, &[0], span(0, width, width));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_ok()
    };
    assert!(gather(&[0; 16], Element::Int8, 6) && gather(&[0; 16], Element::Int4, 6) && gather(&[], Element::F16, 6));
    assert!(!gather(&[0; 15], Element::Int8, 6) && !gather(&[], Element::Int4, 6));
    assert!(!gather(&[0; 16], Element::Int4, 5));
}
