//! The kernel sets, listed once, and the checked way to call them.

use super::lanes::MAX_SHARES;
use super::panels::{Element, OutOfMemory, Panels, SharedBytes, Unfit, Weight};
use super::{
    Activation, Attend, Combine, Dense, Generated, MatMul, Places, Pooling, Reduce, Span, Start, Table, Unpack, amx,
    avx2, avx512, neon, scalar, select, wide,
};
use std::fmt;

/// The functions of one instruction set. All are `unsafe`: the CPU must have the set, the spans must lie in the memory,
/// the ids in the table. [`Kernels`] sees to it.
#[expect(clippy::type_complexity, reason = "a table of signatures, each used once")]
pub(super) struct Functions {
    pub name: &'static str,
    /// Printed names of the dense kernels, by element type: one for one or two rows, one for more.
    pub dense_names: [[&'static str; 2]; 6],
    /// Layers of all types but bf16.
    pub dense: unsafe fn(&mut [f32], usize, &Dense<'_>),
    pub pairs: unsafe fn(&mut [f32], usize, &Dense<'_>),
    /// Whether layers of int12 and int16 are read as planes of bytes.
    pub has_planes: bool,
    pub unary: unsafe fn(&mut [f32], usize, Activation, Span, Span),
    pub generated: unsafe fn(&mut [f32], usize, &Generated<'_>),
    pub combine: unsafe fn(&mut [f32], usize, Combine, Span, Span, Activation, Span),
    pub affine: unsafe fn(&mut [f32], usize, Span, &[f32], &[f32], Span),
    pub softmax: unsafe fn(&mut [f32], usize, Span, Span),
    pub layer_norm: unsafe fn(&mut [f32], usize, Span, &[f32], &[f32], f32, Span),
    pub normalize: unsafe fn(&mut [f32], usize, Span, f32, Span),
    pub dot: unsafe fn(&mut [f32], usize, Span, Span, usize, Span),
    pub mixture: unsafe fn(&mut [f32], usize, Span, bool, &[Span], Span),
    pub copy: unsafe fn(&mut [f32], usize, Span, Span),
    pub gather: unsafe fn(&mut [f32], Table<'_>, &[u32], Span),
    pub unpack: unsafe fn(&mut [f32], &Unpack<'_>),
    pub gather_pooled: unsafe fn(&mut [f32], Table<'_>, &[u32], &[u32], Pooling, Span),
    pub sum_rows: unsafe fn(&mut [f32], Table<'_>, &[u32], Span),
    pub pool: unsafe fn(&mut [f32], usize, Span, Option<Span>, usize, bool, Span),
    pub softmax_down: unsafe fn(&mut [f32], usize, Span, Span),
    pub attend: unsafe fn(&mut [f32], usize, usize, &Attend),
    pub choose: unsafe fn(&mut [f32], usize, Span, Span, Span, Span),
    pub reduce: unsafe fn(&mut [f32], usize, Reduce, usize, Span, Span),
    pub view: unsafe fn(&mut [f32], usize, Span, &Places, Span),
    pub top_k: unsafe fn(&mut [f32], usize, Span, usize, bool, Span),
    pub matmul_transposed: unsafe fn(&mut [f32], usize, &MatMul, [usize; 2]),
    pub prefetch: unsafe fn(*const u8, usize),
    pub spin: unsafe fn(usize) -> usize,
}

/// The table of a set: every kernel of `lanes`, `tile` and the like over its lanes, compiled with its features. The tiles, rows by
/// outputs, are those of f32, f16, bf16, int12 and int16, and int8.
macro_rules! kernel_set {
    ($set:literal, $lanes:ty, $features:literal, $tiles:tt) => {
        impl $crate::kernels::lanes::Set for $lanes {
            #[cfg(debug_assertions)]
            #[target_feature(enable = $features)]
            #[inline(never)]
            unsafe fn apart<J: $crate::kernels::lanes::Job>(job: J) {
                // SAFETY: the caller's promise.
                unsafe { job.run() }
            }
        }

        pub const FUNCTIONS: $crate::kernels::list::Functions = {
            use $crate::kernels::*;
            kernel_set! { @table $set, $lanes, $features, $tiles;
                tile::dense(memory: &mut [f32], rows: usize, call: &Dense<'_>);
                dots::pairs(memory: &mut [f32], rows: usize, call: &Dense<'_>);
                lanes::unary(memory: &mut [f32], rows: usize, activation: Activation, input: Span, output: Span);
                tile::generated(memory: &mut [f32], rows: usize, call: &Generated<'_>);
                lanes::combine(
                    memory: &mut [f32], rows: usize, how: Combine, left: Span, right: Span, activation: Activation,
                    output: Span
                );
                lanes::affine(
                    memory: &mut [f32], rows: usize, input: Span, scale: &[f32], shift: &[f32], output: Span
                );
                lanes::softmax(memory: &mut [f32], rows: usize, input: Span, output: Span);
                lanes::layer_norm(
                    memory: &mut [f32], rows: usize, input: Span, scale: &[f32], shift: &[f32], epsilon: f32,
                    output: Span
                );
                lanes::normalize(memory: &mut [f32], rows: usize, input: Span, epsilon: f32, output: Span);
                lanes::dot(memory: &mut [f32], rows: usize, left: Span, right: Span, groups: usize, output: Span);
                lanes::mixture(
                    memory: &mut [f32], rows: usize, gate: Span, is_softmax: bool, experts: &[Span], output: Span
                );
                lanes::copy(memory: &mut [f32], rows: usize, input: Span, output: Span);
                lanes::gather(memory: &mut [f32], table: Table<'_>, ids: &[u32], output: Span);
                lanes::unpack(memory: &mut [f32], call: &Unpack<'_>);
                lanes::gather_pooled(
                    memory: &mut [f32], table: Table<'_>, ids: &[u32], row_offsets: &[u32], pooling: Pooling,
                    output: Span
                );
                lanes::sum_rows(memory: &mut [f32], table: Table<'_>, ids: &[u32], output: Span);
                lanes::pool(
                    memory: &mut [f32], positions: usize, input: Span, weights: Option<Span>, groups: usize,
                    is_mean: bool, output: Span
                );
                lanes::softmax_down(memory: &mut [f32], positions: usize, input: Span, output: Span);
                attend::attend(memory: &mut [f32], rows: usize, positions: usize, call: &Attend);
                lanes::choose(
                    memory: &mut [f32], rows: usize, condition: Span, then: Span, otherwise: Span, output: Span
                );
                reduce::reduce(memory: &mut [f32], rows: usize, how: Reduce, inner: usize, input: Span, output: Span);
                lanes::view(memory: &mut [f32], rows: usize, input: Span, places: &Places, output: Span);
                select::top_k(
                    memory: &mut [f32], rows: usize, input: Span, groups: usize, is_smallest: bool, output: Span
                );
                transposed::matmul_transposed(memory: &mut [f32], rows: usize, call: &MatMul, steps: [usize; 2]);
                lanes::prefetch(from: *const u8, bytes: usize);
                lanes::spin(turns: usize) -> usize;
            }
        };
    };
    (@table $set:literal, $lanes:ty, $features:literal,
     [$f32:literal, $f16:literal, $bf16:literal, $words:literal, $bytes:literal];
     $($module:ident::$name:ident($($argument:ident: $type:ty),*) $(-> $out:ty)?;)*) => {{
        $(
            #[target_feature(enable = $features)]
            fn $name($($argument: $type),*) $(-> $out)? {
                // SAFETY: this function is called through `Functions`, whose callers checked the CPU and the arguments.
                unsafe { $module::$name::<$lanes>($($argument),*) }
            }
        )*
        list::Functions {
            name: $set,
            has_planes: false,
            dense_names: [
                [concat!($set, "-f32-1x64"), concat!($set, "-f32-", $f32)],
                [concat!($set, "-f32f16f32-1x64"), concat!($set, "-f32f16f32-", $f16)],
                [concat!($set, "-bf16-1x64"), concat!($set, "-bf16-", $bf16)],
                [concat!($set, "-int12-1x64"), concat!($set, "-int12-", $words)],
                [concat!($set, "-int16-1x64"), concat!($set, "-int16-", $words)],
                [concat!($set, "-int8-1x64"), concat!($set, "-int8-", $bytes)],
            ],
            $($name,)*
        }
    }};
}
pub(super) use kernel_set;

/// One instruction set, ready to call on this CPU.
pub struct Kernels {
    functions: Functions,
    is_available: fn() -> bool,
}

/// Every set, slowest first. A new set is a line here.
static LIST: [Kernels; 7] = [
    Kernels { functions: scalar::FUNCTIONS, is_available: || true },
    Kernels { functions: wide::FUNCTIONS, is_available: || true },
    Kernels { functions: avx2::FUNCTIONS, is_available: avx2::is_available },
    Kernels { functions: avx512::FUNCTIONS, is_available: avx512::is_available },
    Kernels { functions: avx512::WITH_BF16, is_available: avx512::is_available_with_bf16 },
    Kernels { functions: amx::FUNCTIONS, is_available: amx::is_available },
    Kernels { functions: neon::FUNCTIONS, is_available: neon::is_available },
];

/// A kernel set was asked for by a name that does not exist, or that this CPU cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIsa {
    name: String,
    is_known: bool,
}

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = LIST.iter().map(Kernels::name).collect();
        if self.is_known {
            write!(f, "`{}` needs instructions that this CPU does not have", self.name)
        } else {
            write!(f, "`{}` is not one of {}", self.name, names.join(", "))
        }
    }
}

impl Kernels {
    /// The set of that name, or the fastest of this CPU.
    ///
    /// # Errors
    /// If the name is unknown, or the CPU lacks what it needs.
    pub fn select(name: Option<&str>) -> Result<&'static Kernels, UnknownIsa> {
        let Some(name) = name else {
            return Ok(LIST.iter().rev().find(|kernels| (kernels.is_available)()).unwrap_or(&LIST[0]));
        };
        let unknown = |is_known| UnknownIsa { name: name.to_owned(), is_known };
        let kernels = LIST.iter().find(|kernels| kernels.name() == name).ok_or_else(|| unknown(false))?;
        if (kernels.is_available)() { Ok(kernels) } else { Err(unknown(true)) }
    }

    /// Every set that this CPU can run, slowest first.
    #[cfg(test)]
    pub fn available() -> impl Iterator<Item = &'static Kernels> {
        LIST.iter().filter(|kernels| (kernels.is_available)())
    }

    pub fn name(&self) -> &'static str {
        self.functions.name
    }

    /// The name of the dense kernel for weights of that type and that many rows.
    pub fn dense_name(&self, weights: Weight, rows: usize) -> &'static str {
        self.functions.dense_names[weights as usize][usize::from(rows > 2)]
    }

    /// Packs a layer as this set reads it: see [`Panels::pack`].
    ///
    /// # Errors
    /// If memory cannot be reserved.
    pub fn pack(
        &self,
        weight_type: Weight,
        [depth, columns]: [usize; 2],
        weight: impl Fn(usize, usize) -> f32,
        bias: Option<&[f32]>,
    ) -> Result<Panels, OutOfMemory> {
        self.complete(Panels::pack(weight_type, depth, columns, weight, bias)?)
    }

    /// Packs a layer of integers as this set reads it: see [`Panels::pack_integers`].
    ///
    /// # Errors
    /// If memory cannot be reserved.
    pub fn pack_integers(
        &self,
        weight_type: Weight,
        [depth, columns]: [usize; 2],
        integer: impl Fn(usize, usize) -> i32,
        scales: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Panels, OutOfMemory> {
        self.complete(Panels::pack_integers(weight_type, depth, columns, integer, scales, bias)?)
    }

    /// Panels that a file holds, as this set reads them: see [`Panels::of`].
    ///
    /// # Errors
    /// See [`Unfit`].
    pub fn packed(
        &self,
        weight_type: Weight,
        [depth, columns]: [usize; 2],
        bytes: SharedBytes,
    ) -> Result<Panels, Unfit> {
        self.complete(Panels::of(weight_type, depth, columns, bytes)?).map_err(Unfit::OutOfMemory)
    }

    fn complete(&self, mut panels: Panels) -> Result<Panels, OutOfMemory> {
        if matches!(panels.weight_type(), Weight::Int12 | Weight::Int16) && self.has_planes() {
            panels.add_planes()?;
        }
        Ok(panels)
    }

    /// Whether layers of int12 and int16 are read as planes of bytes.
    pub fn has_planes(&self) -> bool {
        self.functions.has_planes
    }

    /// Asks for `values` to be brought into the caches, without waiting for them.
    pub fn prefetch<T>(&self, values: &[T]) {
        // SAFETY: the CPU has the set (`select`), and nothing is read.
        unsafe { (self.functions.prefetch)(values.as_ptr().cast(), size_of_val(values)) }
    }

    /// Asks for rows of a table, without waiting for them.
    pub fn ask(&self, table: Table<'_>, ids: &[u32]) {
        for id in ids {
            self.prefetch(table.scale(*id));
            self.prefetch(table.row(*id));
        }
    }

    /// Multiplies and adds in registers alone, `turns` times; returns how many operations that were.
    pub fn spin(&self, turns: usize) -> usize {
        // SAFETY: the CPU has the set (`select`).
        unsafe { (self.functions.spin)(turns) }
    }

    /// Runs a dense layer. Input and output may not overlap, nor the scratch with anything.
    pub fn dense(&self, memory: &mut [f32], rows: usize, call: &Dense<'_>) {
        assert_eq!(call.input.width, call.weights.depth(), "dense input");
        assert_eq!(call.output.width, call.weights.columns(), "dense output");
        check(memory, rows, call.input);
        check_output(memory, rows, call.output);
        for span in call.addend.into_iter().chain(if let Start::Span(span) = call.start { Some(span) } else { None }) {
            assert_eq!(span.width, call.output.width, "dense start or addend");
            check(memory, rows, span);
        }
        let needed = call.weights.weight_type().scratch(call.input.width, rows);
        assert!(call.scratch.width >= needed, "dense scratch");
        assert_eq!(call.reach.and(call.weights.reach()), call.reach, "dense reach");
        assert!(!self.has_planes() || call.weights.has_planes(), "dense planes");
        check(memory, 1, call.scratch);
        let [during, after] = call.activation.split();
        let dense = match call.weights.weight_type() {
            Weight::Bf16 => self.functions.pairs,
            _ => self.functions.dense,
        };
        // SAFETY: the CPU has the set (`select`), and all spans were checked above.
        unsafe { dense(memory, rows, &Dense { activation: during, ..*call }) }
        if after != Activation::Identity {
            self.unary(memory, rows, after, call.output, call.output);
        }
    }

    /// `output = activation(input)`; may be in place.
    pub fn unary(&self, memory: &mut [f32], rows: usize, activation: Activation, input: Span, output: Span) {
        assert_eq!(input.width, output.width, "unary");
        check(memory, rows, input);
        check_output(memory, rows, output);
        // SAFETY: the CPU has the set (`select`), and all spans were checked above.
        unsafe { (self.functions.unary)(memory, rows, activation, input, output) }
    }

    /// Runs a dense layer whose weight was computed. The output may overlap with nothing that is read: with several passes
    /// over `k`, it holds what is summed so far.
    pub fn generated(&self, memory: &mut [f32], rows: usize, call: &Generated<'_>) {
        let elements = call.input.width.saturating_mul(call.output.width);
        match call.outside {
            None => {
                assert_eq!(call.weight.width, elements, "generated weight");
                check(memory, rows, call.weight);
            }
            Some(outside) => assert_eq!(outside.len(), elements, "generated weight"),
        }
        assert!(call.start != Start::Bias, "generated start");
        check(memory, rows, call.input);
        check_output(memory, rows, call.output);
        for span in call.addend.into_iter().chain(if let Start::Span(span) = call.start { Some(span) } else { None }) {
            assert_eq!(span.width, call.output.width, "generated start or addend");
            check(memory, rows, span);
        }
        let [during, after] = call.activation.split();
        // SAFETY: the CPU has the set (`select`), and all spans were checked above.
        unsafe { (self.functions.generated)(memory, rows, &Generated { activation: during, ..*call }) }
        if after != Activation::Identity {
            self.unary(memory, rows, after, call.output, call.output);
        }
    }

    /// `output = activation(how(left, right))`; a right side of width 1 is repeated. May be in place, but not over a repeated
    /// side.
    #[expect(clippy::too_many_arguments, reason = "three spans and two functions")]
    pub fn combine(
        &self,
        memory: &mut [f32],
        rows: usize,
        how: Combine,
        left: Span,
        right: Span,
        activation: Activation,
        output: Span,
    ) {
        assert_eq!(left.width, output.width, "combine left");
        assert!(right.width == output.width || right.width == 1, "combine right");
        check(memory, rows, left);
        check(memory, rows, right);
        check_output(memory, rows, output);
        let [during, after] = activation.split();
        // SAFETY: the CPU has the set (`select`), and all spans were checked above.
        unsafe { (self.functions.combine)(memory, rows, how, left, right, during, output) }
        if after != Activation::Identity {
            self.unary(memory, rows, after, output, output);
        }
    }

    /// `output = (input - mean) / sqrt(variance + epsilon) * scale + shift`, moments over the row; may be in place.
    #[expect(clippy::too_many_arguments, reason = "the formula has as many")]
    pub fn layer_norm(
        &self,
        memory: &mut [f32],
        rows: usize,
        input: Span,
        scale: &[f32],
        shift: &[f32],
        epsilon: f32,
        output: Span,
    ) {
        assert_eq!(input.width, output.width, "layer norm");
        assert!(scale.len() == output.width && shift.len() == output.width, "layer norm constants");
        check(memory, rows, input);
        check_output(memory, rows, output);
        // SAFETY: the CPU has the set (`select`), and all spans and lengths were checked above.
        unsafe { (self.functions.layer_norm)(memory, rows, input, scale, shift, epsilon, output) }
    }

    /// `output = input / max(|input|_2, epsilon)`, per row; may be in place.
    pub fn normalize(&self, memory: &mut [f32], rows: usize, input: Span, epsilon: f32, output: Span) {
        assert_eq!(input.width, output.width, "normalize");
        check(memory, rows, input);
        check_output(memory, rows, output);
        // SAFETY: the CPU has the set (`select`), and all spans were checked above.
        unsafe { (self.functions.normalize)(memory, rows, input, epsilon, output) }
    }

    /// `output[g] = sum_j left[g, j] * right[g, j]` for `groups` equal parts of the row. The output may not overlap with them.
    pub fn dot(&self, memory: &mut [f32], rows: usize, left: Span, right: Span, groups: usize, output: Span) {
        assert!(left.width == right.width && output.width == groups, "dot");
        assert!(groups > 0 && left.width.is_multiple_of(groups), "dot groups");
        check(memory, rows, left);
        check(memory, rows, right);
        check_output(memory, rows, output);
        // SAFETY: the CPU has the set (`select`), and all spans were checked above.
        unsafe { (self.functions.dot)(memory, rows, left, right, groups, output) }
    }

    /// `output = input * scale + shift`, fused.
    pub fn affine(&self, memory: &mut [f32], rows: usize, input: Span, scale: &[f32], shift: &[f32], output: Span) {
        assert_eq!(input.width, output.width, "affine");
        assert!(scale.len() == output.width && shift.len() == output.width, "affine constants");
        check(memory, rows, input);
        check_output(memory, rows, output);
        // SAFETY: the CPU has the set (`select`), and all spans and lengths were checked above.
        unsafe { (self.functions.affine)(memory, rows, input, scale, shift, output) }
    }

    /// `output = exp(input - max) / sum(exp(input - max))`, per row.
    pub fn softmax(&self, memory: &mut [f32], rows: usize, input: Span, output: Span) {
        assert_eq!(input.width, output.width, "softmax");
        check(memory, rows, input);
        check_output(memory, rows, output);
        // SAFETY: the CPU has the set (`select`), and all spans were checked above.
        unsafe { (self.functions.softmax)(memory, rows, input, output) }
    }

    /// `output = sum_e gate[e] * experts[e]`, e ascending by FMA from zero; or the same with the softmax of the gate, of up to
    /// [`MAX_SHARES`] experts.
    pub fn mixture(
        &self,
        memory: &mut [f32],
        rows: usize,
        gate: Span,
        is_softmax: bool,
        experts: &[Span],
        output: Span,
    ) {
        assert_eq!(gate.width, experts.len(), "mixture gate");
        assert!(!is_softmax || gate.width <= MAX_SHARES, "mixture softmax");
        check(memory, rows, gate);
        for expert in experts {
            assert_eq!(expert.width, output.width, "mixture expert");
            check(memory, rows, *expert);
        }
        check_output(memory, rows, output);
        // SAFETY: the CPU has the set (`select`), and all spans were checked above.
        unsafe { (self.functions.mixture)(memory, rows, gate, is_softmax, experts, output) }
    }

    /// `output = input`
    pub fn copy(&self, memory: &mut [f32], rows: usize, input: Span, output: Span) {
        assert_eq!(input.width, output.width, "copy");
        check(memory, rows, input);
        check_output(memory, rows, output);
        // SAFETY: the CPU has the set (`select`), and all spans were checked above.
        unsafe { (self.functions.copy)(memory, rows, input, output) }
    }

    /// `output[r] = table[ids[r]]`, widened to f32.
    pub fn gather(&self, memory: &mut [f32], table: Table<'_>, ids: &[u32], output: Span) {
        check_table(table, ids, output);
        check_output(memory, ids.len(), output);
        // SAFETY: the CPU has the set (`select`); the span, the table and all ids were checked above.
        unsafe { (self.functions.gather)(memory, table, ids, output) }
    }

    /// `output[r] = activation(part of rows[r] + addend[r])`, see [`Unpack`]. The output may be the addend.
    pub fn unpack(&self, memory: &mut [f32], call: &Unpack<'_>) {
        let Unpack { rows, element, start, addend, activation, output } = *call;
        assert!(element != Element::Int4 || output.width.is_multiple_of(2), "packed width");
        let end = start.saturating_add(element.scale_bytes()).saturating_add(element.row_bytes(output.width));
        assert!(rows.iter().all(|row| end <= row.len()), "packed rows");
        if let Some(addend) = addend {
            assert_eq!(addend.width, output.width, "packed addend");
            check(memory, rows.len(), addend);
        }
        check_output(memory, rows.len(), output);
        let [during, after] = activation.split();
        // SAFETY: the CPU has the set (`select`), and all rows and spans were checked above.
        unsafe { (self.functions.unpack)(memory, &Unpack { activation: during, ..*call }) }
        if after != Activation::Identity {
            self.unary(memory, rows.len(), after, output, output);
        }
    }

    /// `output[r] = pool(table[ids[i]] for i in row_offsets[r]..row_offsets[r + 1])`, in listed order; empty rows are zero.
    pub fn gather_pooled(
        &self,
        memory: &mut [f32],
        table: Table<'_>,
        ids: &[u32],
        row_offsets: &[u32],
        pooling: Pooling,
        output: Span,
    ) {
        check_table(table, ids, output);
        assert!(row_offsets.is_sorted(), "bag offsets");
        assert!(row_offsets.last().is_some_and(|end| *end as usize <= ids.len()), "bag offsets");
        check_output(memory, row_offsets.len() - 1, output);
        // SAFETY: the CPU has the set (`select`); the span, the table, all ids and offsets were checked above.
        unsafe { (self.functions.gather_pooled)(memory, table, ids, row_offsets, pooling, output) }
    }

    /// `output = sum_i table[ids[i]]` in one row, in listed order; no ids give zeros. For few rows that are wide.
    pub fn sum_rows(&self, memory: &mut [f32], table: Table<'_>, ids: &[u32], output: Span) {
        check_table(table, ids, output);
        check_output(memory, 1, output);
        // SAFETY: the CPU has the set (`select`); the span, the table and all ids were checked above.
        unsafe { (self.functions.sum_rows)(memory, table, ids, output) }
    }

    /// `output[g, j] = sum_i weights[i, g] * input[i, g, j]` over `positions` rows, i ascending by FMA, for as many equal
    /// parts of a row as `weights` are wide; without weights the sum, or the mean. No positions give zeros. The output may
    /// be a row of the input, but not overlap with the weights.
    pub fn pool(
        &self,
        memory: &mut [f32],
        positions: usize,
        input: Span,
        weights: Option<Span>,
        is_mean: bool,
        output: Span,
    ) {
        assert_eq!(input.width, output.width, "pool");
        let groups = weights.map_or(1, |weights| weights.width);
        assert!(groups > 0 && input.width.is_multiple_of(groups), "pool groups");
        check(memory, positions, input);
        if let Some(weights) = weights {
            check(memory, positions, weights);
        }
        check_output(memory, 1, output);
        // SAFETY: the CPU has the set (`select`), and all spans were checked above.
        unsafe { (self.functions.pool)(memory, positions, input, weights, groups, is_mean, output) }
    }

    /// `output[i] = exp(input[i] - max) / sum_i exp(input[i] - max)` down each column of `positions` rows; may be in place.
    pub fn softmax_down(&self, memory: &mut [f32], positions: usize, input: Span, output: Span) {
        assert_eq!(input.width, output.width, "softmax down");
        check(memory, positions, input);
        check_output(memory, positions, output);
        // SAFETY: the CPU has the set (`select`), and all spans were checked above.
        unsafe { (self.functions.softmax_down)(memory, positions, input, output) }
    }

    /// The pooled rows of an attention matrix over `positions` positions. The scratch may overlap with nothing else, and the output
    /// with no input.
    pub fn attend(&self, memory: &mut [f32], rows: usize, positions: usize, call: &Attend) {
        let Attend { terms, length, .. } = *call;
        assert!(positions <= length && call.output.width == length, "attend positions");
        for side in [call.queries, call.keys] {
            assert_eq!(side.width, terms * length, "attend");
            check(memory, rows, side);
        }
        check_output(memory, rows, call.output);
        assert!(call.scratch.width >= Attend::scratch(terms, length), "attend scratch");
        check(memory, 1, call.scratch);
        if let Some(base) = call.base {
            assert_eq!(base.width, length * length, "attend base");
            check(memory, rows, base);
        }
        // SAFETY: the CPU has the set (`select`), and all spans were checked above.
        unsafe { (self.functions.attend)(memory, rows, positions, call) }
    }

    /// `output = if condition != 0 { then } else { otherwise }`, NaN being a condition that holds. Inputs of width 1 are
    /// repeated. May be in place, but not over a repeated input.
    pub fn choose(&self, memory: &mut [f32], rows: usize, condition: Span, then: Span, otherwise: Span, output: Span) {
        for input in [condition, then, otherwise] {
            assert!(input.width == output.width || input.width == 1, "choose");
            check(memory, rows, input);
        }
        check_output(memory, rows, output);
        // SAFETY: the CPU has the set (`select`), and all spans were checked above.
        unsafe { (self.functions.choose)(memory, rows, condition, then, otherwise, output) }
    }

    /// `output[g, c] = how of input[g, i, c] over i`: a row of the input is `[groups, length, inner]`, with at least one
    /// element to each of the output's. The output may not overlap with the input.
    pub fn reduce(&self, memory: &mut [f32], rows: usize, how: Reduce, inner: usize, input: Span, output: Span) {
        assert!(inner > 0 && output.width > 0 && output.width.is_multiple_of(inner), "reduce output");
        assert!(input.width > 0 && input.width.is_multiple_of(output.width), "reduce input");
        check(memory, rows, input);
        check_output(memory, rows, output);
        // SAFETY: the CPU has the set (`select`), and all spans were checked above.
        unsafe { (self.functions.reduce)(memory, rows, how, inner, input, output) }
    }

    /// `output[j] = input[places[j]]`. The output may not overlap with the input.
    pub fn view(&self, memory: &mut [f32], rows: usize, input: Span, places: &Places, output: Span) {
        assert!(places.width() == output.width && places.reach() <= input.width, "view");
        check(memory, rows, input);
        check_output(memory, rows, output);
        // SAFETY: the CPU has the set (`select`), and all spans and places were checked above.
        unsafe { (self.functions.view)(memory, rows, input, places, output) }
    }

    /// `output[g, t] = input[g, index[g, t]]`: a row of the input is `[groups, length, inner]`, of the index
    /// `[groups, count]`, of the output `[groups, count, inner]`. An index is a whole number; below 0 it counts from the end,
    /// and one that lies outside, or is NaN, picks the nearest element, or the first. The output may not overlap with the
    /// inputs.
    pub fn pick(&self, memory: &mut [f32], rows: usize, input: Span, index: Span, groups: usize, output: Span) {
        assert!(groups > 0 && index.width > 0 && index.width.is_multiple_of(groups), "pick index");
        assert!(output.width > 0 && output.width.is_multiple_of(index.width), "pick output");
        let part = groups.saturating_mul(output.width / index.width);
        assert!(input.width > 0 && input.width.is_multiple_of(part), "pick input");
        check(memory, rows, input);
        check(memory, rows, index);
        check_output(memory, rows, output);
        select::pick(memory, rows, input, index, groups, output);
    }

    /// The largest (smallest) elements of each of `groups` equal parts of a row, in order, and then their places in the
    /// part: the output is `[2, groups, count]`. Of equal ones the first comes first; NaN is larger than all. The output may
    /// not overlap with the input.
    pub fn top_k(&self, memory: &mut [f32], rows: usize, input: Span, groups: usize, is_smallest: bool, output: Span) {
        assert!(groups > 0 && input.width.is_multiple_of(groups), "top k input");
        assert!(output.width.is_multiple_of(2 * groups) && output.width / 2 <= input.width, "top k output");
        check(memory, rows, input);
        check_output(memory, rows, output);
        // SAFETY: the CPU has the set (`select`), and both spans were checked above.
        unsafe { (self.functions.top_k)(memory, rows, input, groups, is_smallest, output) }
    }

    /// Products of matrices of each row. The output may not overlap with the inputs.
    pub fn matmul(&self, memory: &mut [f32], rows: usize, call: &MatMul) {
        let MatMul { left, right, output, batch, height, inner, columns, is_transposed } = *call;
        let elements = height.checked_mul(columns).and_then(|elements| elements.checked_mul(batch));
        assert!(inner > 0 && elements == Some(output.width), "matmul output");
        let Some(steps) = call.steps() else { panic!("matmul inputs") };
        check(memory, rows, left);
        check(memory, rows, right);
        check_output(memory, rows, output);
        if is_transposed {
            // SAFETY: the CPU has the set (`select`), and all spans were checked above.
            return unsafe { (self.functions.matmul_transposed)(memory, rows, call, steps) };
        }
        let [step, matrix_step] = steps;
        let (batch, height) = if matrix_step == 0 && step > 0 { (1, batch * height) } else { (batch, height) };
        let mut product = |rows: usize, input: Span, weight: Span, output: Span| {
            let (start, addend, activation) = (Start::Zero, None, Activation::Identity);
            let product = Generated { input, weight, outside: None, start, addend, output, activation };
            // SAFETY: the CPU has the set (`select`), and the matrices lie in the spans that were checked above.
            unsafe { (self.functions.generated)(memory, rows, &product) }
        };
        if batch == 1 && height == 1 {
            return product(rows, left, right, output);
        }
        for (row, place) in (0..rows).flat_map(|row| (0..batch).map(move |place| (row, place))) {
            let at = |span: Span, first: usize, stride: usize, width: usize| Span {
                offset: span.offset + row * span.stride + first,
                stride,
                width,
            };
            let weight = at(right, place * matrix_step, 0, inner * columns);
            let output = at(output, place * height * columns, columns, columns);
            product(height, at(left, place * step, inner, inner), weight, output);
        }
    }
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernels({})", self.name())
    }
}

/// A breach is a defect of the planner: it panics here rather than reads out of bounds below.
fn check(memory: &[f32], rows: usize, span: Span) {
    let last = rows.saturating_sub(1).saturating_mul(span.stride);
    let end = span.offset.saturating_add(last).saturating_add(span.width);
    assert!(end <= memory.len(), "{span:?} of {rows} rows is outside a memory of {}", memory.len());
}

fn check_output(memory: &[f32], rows: usize, span: Span) {
    check(memory, rows, span);
    assert!(rows <= 1 || span.stride >= span.width, "{span:?} has rows that overlap");
}

fn check_table(table: Table<'_>, ids: &[u32], output: Span) {
    assert_eq!(table.width, output.width, "table width");
    assert!(table.element != Element::Int4 || table.width.is_multiple_of(2), "table width");
    let bytes = table.rows.checked_mul(table.element.row_bytes(table.width));
    assert!(bytes.is_some_and(|bytes| bytes <= table.bytes.len()), "table bytes");
    let scales = table.rows.checked_mul(table.element.scale_bytes());
    assert!(scales.is_some_and(|bytes| bytes <= table.scales.len()), "table scales");
    assert!(ids.iter().all(|id| (*id as usize) < table.rows), "table rows");
}
