//! An operation on equal parts of every row, as calls of a kernel that knows rows only: a call per part over all rows, or a
//! call per row over its parts, whichever are fewer. The bits are the same.

use super::Span;

/// One call.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// This one of `groups` parts of all rows.
    Of { group: usize, groups: usize },
    /// All parts of this row.
    Row { row: usize, groups: usize },
}

impl Part {
    /// The calls, each with its number of rows.
    pub fn calls(rows: usize, groups: usize) -> impl Iterator<Item = (usize, Part)> {
        let is_by_row = rows < groups;
        (0..rows.min(groups)).map(move |index| {
            if is_by_row {
                (groups, Part::Row { row: index, groups })
            } else {
                (rows, Part::Of { group: index, groups })
            }
        })
    }

    /// A value of which each part has its share.
    pub fn split(self, span: Span) -> Span {
        match self {
            Part::Of { group, groups } => {
                let width = span.width / groups;
                Span { offset: span.offset + group * width, width, ..span }
            }
            Part::Row { row, groups } => {
                let width = span.width / groups;
                Span { offset: span.offset + row * span.stride, stride: width, width }
            }
        }
    }

    /// A value that all parts of a row read whole.
    pub fn repeat(self, span: Span) -> Span {
        match self {
            Part::Of { .. } => span,
            Part::Row { row, .. } => Span { offset: span.offset + row * span.stride, stride: 0, ..span },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::{memory, run};
    use super::super::{
        Activation, Argmax, Combination, Combine, Dense, LayerNorm, NOWHERE, Normalize, Operation, Panels, Reach,
        Softmax, Span, Spread, Start, Weight,
    };

    /// Rows and parts: more of these, more of those, as many.
    const SHAPES: [[usize; 2]; 7] = [[1, 1], [1, 3], [3, 1], [5, 2], [2, 5], [4, 4], [9, 30]];

    /// Which share of a value one part of one row sees.
    #[derive(Clone, Copy)]
    struct Share {
        row: usize,
        group: usize,
        groups: usize,
    }

    impl Share {
        fn of(self, span: Span) -> Span {
            let width = span.width / self.groups;
            Span { offset: span.offset + self.row * span.stride + self.group * width, stride: 0, width }
        }

        fn whole(self, span: Span) -> Span {
            Span { offset: span.offset + self.row * span.stride, stride: 0, ..span }
        }
    }

    /// Compares an operation on all rows and parts with the same on every part of every row alone.
    fn assert_each_part(rows: usize, groups: usize, whole: &Operation, alone: impl Fn(Share) -> Operation) {
        let mut actual = memory();
        run(whole, rows, &mut actual, &[]);
        let mut expected = memory();
        for (row, group) in (0..rows).flat_map(|row| (0..groups).map(move |group| (row, group))) {
            run(&alone(Share { row, group, groups }), 1, &mut expected, &[]);
        }
        assert_ne!(expected, memory());
        assert_eq!(actual, expected, "{} {rows} {groups}", whole.name());
    }

    #[test]
    fn every_part_is_computed_for_itself() {
        let width = 7;
        let (gamma, beta) = (vec![0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5], vec![0.25; 7]);
        for [rows, groups] in SHAPES {
            let input = Span { offset: 3, stride: groups * width + 2, width: groups * width };
            let output = Span { offset: 3000, stride: groups * width + 1, width: groups * width };
            let softmax = |groups, input, output| Operation::Softmax(Softmax { groups, input, output });
            let argmax = |groups, input, output| Operation::Argmax(Argmax { groups, input, output });
            let layer_norm = |groups, input, output| {
                let (gamma, beta) = (gamma.clone(), beta.clone());
                Operation::LayerNorm(LayerNorm { groups, input, gamma, beta, epsilon: 1e-5, output })
            };
            let normalize =
                |groups, input, output| Operation::Normalize(Normalize { groups, input, epsilon: 1e-12, output });
            let operations: [&dyn Fn(usize, Span, Span) -> Operation; 4] = [&softmax, &argmax, &layer_norm, &normalize];
            for operation in operations {
                for (input, output) in [(input, output), (Span { stride: 0, ..input }, output), (output, output)] {
                    assert_each_part(rows, groups, &operation(groups, input, output), |share| {
                        operation(1, share.of(input), share.of(output))
                    });
                }
            }
        }
    }

    #[test]
    fn every_part_is_multiplied_by_the_same_weights() {
        let (depth, columns) = (5, 19);
        let bias: Vec<f32> = (0..columns).map(|c| c as f32 / 8.0).collect();
        let weight = |c: usize, k: usize| (c * 7 + k * 3) as f32 / 16.0 - 4.0;
        let weights = || Panels::pack(Weight::F32, depth, columns, weight, Some(&bias)).expect("memory");
        for [rows, groups] in SHAPES {
            let input = Span { offset: 3, stride: groups * depth, width: groups * depth };
            let output = Span { offset: 9000, stride: groups * columns + 1, width: groups * columns };
            let full = Span { offset: 1, stride: output.width, width: output.width };
            let narrow = Span { offset: 2, stride: columns, width: columns };
            let sides = [full, narrow, Span { stride: 0, ..full }, Span { stride: 0, ..narrow }];
            let starts = sides.map(Some).into_iter().chain([None]);
            for (start, addend) in starts.zip([None, Some(full), Some(narrow), None, Some(sides[3])]) {
                let dense = |groups, input, start: Option<Span>, addend, output| {
                    let start = start.map_or(Start::Bias, Start::Span);
                    let (activation, scratch, reach) = (Activation::Relu, NOWHERE, Reach::NONE);
                    let (weights, packed_name, is_quantized) = (weights(), String::new(), false);
                    Operation::Dense(Dense {
                        groups,
                        input,
                        weights: Box::new(weights),
                        packed_name,
                        start,
                        addend,
                        activation,
                        output,
                        scratch,
                        reach,
                        is_quantized,
                    })
                };
                assert_each_part(rows, groups, &dense(groups, input, start, addend, output), |share| {
                    let side = |span: Span| if span.width == columns { share.whole(span) } else { share.of(span) };
                    dense(1, share.of(input), start.map(side), addend.map(side), share.of(output))
                });
            }
        }
    }

    #[test]
    fn a_narrow_right_side_is_spread() {
        for ([rows, parts], width) in SHAPES.into_iter().flat_map(|shape| [1, 2, 5, 17].map(|width| (shape, width))) {
            for spread in [Spread::Cycle, Spread::Each] {
                let whole = parts * width;
                let left = Span { offset: 3, stride: whole + 2, width: whole };
                let output = Span { offset: 9000, stride: whole + 1, width: whole };
                for stride in [0, width] {
                    let right = Span { offset: 5, stride, width };
                    let how = Combine::Subtract;
                    let mut memory = memory();
                    let combination =
                        Combination { how, left, right, spread, activation: Activation::Identity, output, rows: None };
                    run(&Operation::Combination(combination), rows, &mut memory, &[]);
                    for (row, j) in (0..rows).flat_map(|row| (0..whole).map(move |j| (row, j))) {
                        let met = if spread == Spread::Cycle { j % width } else { j / parts };
                        let right = memory[right.offset + row * right.stride + met];
                        let expected = memory[left.offset + row * left.stride + j] - right;
                        let actual = memory[output.offset + row * output.stride + j];
                        assert_eq!(actual, expected, "{spread:?} {rows} {parts} {width} {row} {j}");
                    }
                }
            }
        }
    }
}
