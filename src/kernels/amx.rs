//! AVX-512 with tiles of 16 x 16 sums: Intel since Sapphire Rapids, after the kernel has granted the tile registers.
//!
//! Layers in int8, int12 and bf16 of several rows; all else is that of AVX-512. The sums of integers are the same. A 12-bit
//! weight and a 16-bit input are two bytes each, and their product is three sums of products of bytes:
//! ```text
//! w = 256 w1 + w0, x = 256 x1 + x0         w1, x1 signed, w0, x0 not
//! w x = 2^16 w1 x1 + 2^8 (w1 x0 + w0 x1) + w0 x0
//! ```
//! each of which fits 32 bits.
//!
//! Tile registers hold 4 sums, 2 blocks of rows and 2 of weights; for int12 3 sums, and the two halves of one block each.
//! They are configured and released in every call, so that a thread that is not in one has none to save.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) use absent::{FUNCTIONS, is_available};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use present::{FUNCTIONS, is_available};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod absent {
    use crate::kernels::list::Functions;
    use crate::kernels::scalar;

    pub const FUNCTIONS: Functions = Functions { name: "amx", ..scalar::FUNCTIONS };

    pub fn is_available() -> bool {
        false
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod present {
    use crate::kernels::avx512::{Avx512, WITH_BF16, is_available_with_bf16};
    use crate::kernels::dots::{BLOCK, Bytes, CARRIED, Dot, FusedPairs, Kind, Planes, Rows, Words};
    use crate::kernels::lanes::Lanes;
    use crate::kernels::list::Functions;
    use crate::kernels::panels::{LINE, PANEL};
    use crate::kernels::tile::{Layer, each_row};
    use crate::kernels::{Dense, Panels, Weight};
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::mem::MaybeUninit;
    use std::sync::OnceLock;

    pub const FUNCTIONS: Functions = Functions {
        name: "amx",
        dense_names: [
            WITH_BF16.dense_names[0],
            WITH_BF16.dense_names[1],
            ["avx512-bf16-1x64", "amx-bf16-32x32"],
            ["avx512-int12-1x64", "amx-int12-16x16"],
            ["avx512-int16-1x64", "amx-int16-16x16"],
            ["avx512-int8-1x64", "amx-int8-32x32"],
        ],
        dense,
        pairs,
        has_planes: true,
        ..WITH_BF16
    };

    /// Bytes of a tile register: of inputs, weights or sums.
    const TILE_BYTES: usize = 1024;
    const PREFETCHES: bool = !cfg!(without = "prefetch");
    /// From as many rows on tiles are faster.
    const FEWEST_ROWS: usize = 5;

    /// Whether the CPU and the operating system have the tiles, and the kernel lets this process use them. Linux grants them to
    /// a process that asks, once; signal frames of its threads grow by 8 KiB when tiles are in use.
    pub fn is_available() -> bool {
        static GRANTED: OnceLock<bool> = OnceLock::new();
        *GRANTED.get_or_init(|| is_available_with_bf16() && has_tiles() && is_granted())
    }

    fn has_tiles() -> bool {
        const BF16_TILE_INT8: u32 = 1 << 22 | 1 << 24 | 1 << 25;
        const CONFIG_AND_DATA: u64 = 1 << 17 | 1 << 18;
        __cpuid(0).eax >= 7
            && __cpuid_count(7, 0).edx & BF16_TILE_INT8 == BF16_TILE_INT8
            // SAFETY: a CPU with AVX-512 has the instruction, and its system uses it.
            && unsafe { saved_states() } & CONFIG_AND_DATA == CONFIG_AND_DATA
    }

    #[target_feature(enable = "xsave")]
    fn saved_states() -> u64 {
        // SAFETY: register 0 is always there.
        unsafe { _xgetbv(0) }
    }

    fn is_granted() -> bool {
        const REQUEST_PERMISSION: libc::c_long = 0x1023;
        const TILE_DATA: libc::c_long = 18;
        // SAFETY: the call takes two numbers and changes nothing but the permission.
        unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 }
    }

    /// All tiles of 16 rows by 64 bytes.
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    static CONFIGURATION: Configuration = Configuration {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    /// The sums of up to two blocks of rows by two panels, twice: those of one turn are finished in vector registers while the
    /// tiles of the next are multiplied.
    #[repr(C, align(64))]
    struct Sums([[[i32; PANEL]; 4 * BLOCK]; 2]);

    /// Whether tiles are faster: of several rows that differ.
    fn is_faster(rows: usize, call: &Dense<'_>) -> bool {
        rows >= FEWEST_ROWS && call.input.stride > 0
    }

    unsafe fn dense(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
        // SAFETY: the caller's promise, handed on.
        unsafe {
            match call.weights.weight_type() {
                Weight::Int8 if is_faster(rows, call) => multiply::<Bytes>(memory, rows, call),
                Weight::Int12 | Weight::Int16 if is_faster(rows, call) => multiply::<Planes>(memory, rows, call),
                _ => (WITH_BF16.dense)(memory, rows, call),
            }
        }
    }

    unsafe fn pairs(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
        // SAFETY: the caller's promise, handed on.
        unsafe {
            if is_faster(rows, call) {
                multiply::<FusedPairs>(memory, rows, call);
            } else {
                (WITH_BF16.pairs)(memory, rows, call);
            }
        }
    }

    /// What a tile of sums is read as.
    trait Lined: Sized {
        /// # Safety
        /// The CPU has AVX-512; `from` holds 16 sums.
        unsafe fn of(from: *const [i32; PANEL]) -> Self;
    }

    impl Lined for __m512i {
        #[inline(always)]
        unsafe fn of(from: *const [i32; PANEL]) -> Self {
            // SAFETY: the caller's promise.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }
    }

    impl Lined for Avx512 {
        #[inline(always)]
        unsafe fn of(from: *const [i32; PANEL]) -> Self {
            // SAFETY: the caller's promise.
            unsafe { Avx512::load(from.cast()) }
        }
    }

    /// A product of one kind in tile registers: in turns of two blocks of rows by two panels, or of both planes of one of each.
    trait Tiles: Kind {
        /// Blocks of rows, and panels, of a turn.
        const BLOCKS: usize;

        /// Where the weights begin, and how many bytes a panel has.
        fn panels(weights: &Panels) -> (*const u8, usize);

        /// Adds the products of 64 bytes of each row to the sums. The second places are those of the second block of rows, which is
        /// not there if `is_alone`, and of the second panel, or those of the second planes.
        ///
        /// # Safety
        /// Tiles are configured, and nobody else uses them; rows and weights can be read.
        unsafe fn step(rows: [*const u8; 2], weights: [*const u8; 2], is_alone: bool);

        /// Makes outputs of the sums of `R` rows, which are in one block.
        ///
        /// # Safety
        /// As [`Rows::finish`]; the sums of the turn are at `from`.
        unsafe fn finish<const R: usize>(product: &Product<'_>, turn: Turn, row: usize, from: *const [i32; PANEL]);
    }

    struct Product<'a> {
        memory: *mut f32,
        inputs: Rows,
        layer: Layer<'a>,
        weights: &'a Panels,
        panels: usize,
    }

    /// The first row and the first panel of a turn.
    #[derive(Clone, Copy)]
    struct Turn {
        row: usize,
        panel: usize,
    }

    macro_rules! pairwise {
        ($kind:ty, $instruction:literal) => {
            impl Tiles for $kind {
                const BLOCKS: usize = 2;

                fn panels(weights: &Panels) -> (*const u8, usize) {
                    (weights.weights(), weights.panel_bytes())
                }

                #[inline(always)]
                unsafe fn step(rows: [*const u8; 2], weights: [*const u8; 2], is_alone: bool) {
                    // SAFETY: the caller's promise.
                    unsafe {
                        if is_alone {
                            asm!(
                                "tileloadd tmm4, [{x} + {line}]",
                                "tileloadd tmm6, [{w} + {line}]",
                                concat!($instruction, " tmm0, tmm4, tmm6"),
                                "tileloadd tmm7, [{v} + {line}]",
                                concat!($instruction, " tmm1, tmm4, tmm7"),
                                x = in(reg) rows[0],
                                w = in(reg) weights[0],
                                v = in(reg) weights[1],
                                line = in(reg) LINE,
                                options(nostack, readonly, preserves_flags)
                            );
                        } else {
                            // Not the above and the rest: with the second rows behind, a request is up to 6 % slower.
                            asm!(
                                "tileloadd tmm4, [{x} + {line}]",
                                "tileloadd tmm6, [{w} + {line}]",
                                concat!($instruction, " tmm0, tmm4, tmm6"),
                                "tileloadd tmm5, [{y} + {line}]",
                                concat!($instruction, " tmm2, tmm5, tmm6"),
                                "tileloadd tmm7, [{v} + {line}]",
                                concat!($instruction, " tmm1, tmm4, tmm7"),
                                concat!($instruction, " tmm3, tmm5, tmm7"),
                                x = in(reg) rows[0],
                                y = in(reg) rows[1],
                                w = in(reg) weights[0],
                                v = in(reg) weights[1],
                                line = in(reg) LINE,
                                options(nostack, readonly, preserves_flags)
                            );
                        }
                    }
                }

                #[inline(always)]
                unsafe fn finish<const R: usize>(
                    product: &Product<'_>,
                    turn: Turn,
                    row: usize,
                    from: *const [i32; PANEL],
                ) {
                    let Product { memory, inputs, layer, weights, panels } = product;
                    let Turn { panel, row: first } = turn;
                    // SAFETY: the caller's promise.
                    unsafe {
                        let from = from.add((row - first) / BLOCK * 2 * BLOCK + (row - first) % BLOCK);
                        let sums = |r: usize, p: usize| <<Avx512 as Dot<$kind>>::Sums as Lined>::of(from.add(r + p * BLOCK));
                        if panel + 1 == *panels {
                            let mut tile = [[sums(0, 0)]; R];
                            each_row!(r of R: tile[r] = [sums(r, 0)]);
                            inputs.finish::<Avx512, $kind, R, 1>(*memory, row, panel, layer, weights, (tile, None));
                        } else {
                            let mut tile = [[sums(0, 0); 2]; R];
                            each_row!(r of R: tile[r] = [sums(r, 0), sums(r, 1)]);
                            inputs.finish::<Avx512, $kind, R, 2>(*memory, row, panel, layer, weights, (tile, None));
                        }
                    }
                }
            }
        };
    }

    pairwise! { Bytes, "tdpbusd" }
    pairwise! { FusedPairs, "tdpbf16ps" }

    impl Tiles for Planes {
        const BLOCKS: usize = 1;

        fn panels(weights: &Panels) -> (*const u8, usize) {
            (weights.planes(), 2 * weights.plane_bytes())
        }

        #[inline(always)]
        unsafe fn step(rows: [*const u8; 2], weights: [*const u8; 2], _is_alone: bool) {
            // SAFETY: the caller's promise.
            unsafe {
                asm!(
                    "tileloadd tmm3, [{x} + {line}]",
                    "tileloadd tmm5, [{w} + {line}]",
                    "tdpbuud tmm0, tmm3, tmm5",
                    "tileloadd tmm4, [{y} + {line}]",
                    "tdpbsud tmm1, tmm4, tmm5",
                    "tileloadd tmm6, [{v} + {line}]",
                    "tdpbssd tmm2, tmm4, tmm6",
                    "tdpbusd tmm1, tmm3, tmm6",
                    x = in(reg) rows[0],
                    y = in(reg) rows[1],
                    w = in(reg) weights[0],
                    v = in(reg) weights[1],
                    line = in(reg) LINE,
                    options(nostack, readonly, preserves_flags)
                );
            }
        }

        #[inline(always)]
        unsafe fn finish<const R: usize>(product: &Product<'_>, turn: Turn, row: usize, from: *const [i32; PANEL]) {
            let Product { memory, inputs, layer, weights, .. } = product;
            // SAFETY: the caller's promise.
            unsafe {
                let from = from.add(row - turn.row);
                let mut lowers = [[_mm512_setzero_si512()]; R];
                if weights.weight_type() == Weight::Int12 {
                    each_row!(r of R: lowers[r] = [sum_of_planes(from.add(r))]);
                    inputs.finish::<Avx512, Words, R, 1>(*memory, row, turn.panel, layer, weights, (lowers, None));
                } else {
                    let mut uppers = lowers;
                    each_row!(r of R: {
                        let [lower, upper] = words(from.add(r));
                        (lowers[r], uppers[r]) = ([lower], [upper]);
                    });
                    let sums = (lowers, Some(uppers));
                    inputs.finish::<Avx512, Words, R, 1>(*memory, row, turn.panel, layer, weights, sums);
                }
            }
        }
    }

    /// Takes turns, of all rows with the same panels and then of all with the next ones. While the tiles of a turn are multiplied, the
    /// sums of the last one become outputs in vector registers, and the weights of the next panels are asked for.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    fn multiply<K: Tiles>(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
        let memory = memory.as_mut_ptr();
        let (weights, panels) = (call.weights, call.output.width.div_ceil(PANEL));
        let (first, panel_bytes) = K::panels(weights);
        let planes = 2 / K::BLOCKS;
        let height = K::BLOCKS * BLOCK;
        let strips = rows.div_ceil(height);
        let turns = strips * panels.div_ceil(K::BLOCKS);
        let mut sums = MaybeUninit::<Sums>::uninit();
        let tiles: *mut [[i32; PANEL]; BLOCK] = sums.as_mut_ptr().cast();
        // SAFETY: the callers checked the CPU, spans and scratch; rows of inputs are read in blocks of 16 and weights in blocks of
        // 16 words, and both have room for that.
        unsafe {
            let inputs = Rows::quantize::<Avx512, K, true>(memory, rows, call);
            let product = Product { memory, inputs, layer: Layer::of(call), weights, panels };
            let second_row = BLOCK * inputs.row_bytes / planes;
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack));
            let mut last = Turn { row: rows, panel: 0 };
            for turn in 0..=turns {
                let steps = if turn < turns { panel_bytes / planes / TILE_BYTES } else { 0 };
                let strip = turn % strips;
                let now = Turn { row: strip * height, panel: turn / strips * K::BLOCKS };
                let mut x = inputs.row(now.row);
                let mut w = first.wrapping_add(now.panel * panel_bytes);
                let next = now.panel + K::BLOCKS;
                let second_panel = if next <= panels { panel_bytes / planes } else { 0 };

                let lines = K::BLOCKS.min(panels.saturating_sub(next)) * panel_bytes / LINE;
                let asked = if PREFETCHES { lines.div_ceil((strips * steps).max(1)) } else { 0 };
                let mut ahead = first.wrapping_add(next * panel_bytes + strip * steps * asked * LINE);

                let from = tiles.add((turn + 1) % 2 * 4).cast_const().cast();
                let end = rows.min(last.row + height);
                let at_once = (end - last.row).div_ceil(steps.max(1)).next_multiple_of(4);
                let mut row = last.row;

                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    options(nostack, nomem, preserves_flags)
                );
                for step in 0..steps.max(1) {
                    if step < steps {
                        let seconds = [x.wrapping_add(second_row), w.wrapping_add(second_panel)];
                        K::step([x, seconds[0]], [w, seconds[1]], now.row + BLOCK >= rows);
                        (x, w) = (x.wrapping_add(TILE_BYTES), w.wrapping_add(TILE_BYTES));
                        for _ in 0..asked {
                            _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                            ahead = ahead.wrapping_add(LINE);
                        }
                    }
                    let stop = end.min(row + at_once);
                    while row < stop {
                        if K::BLOCKS == 1 && row + 8 <= stop {
                            K::finish::<8>(&product, last, row, from);
                            row += 8;
                        } else if row + 4 <= stop {
                            K::finish::<4>(&product, last, row, from);
                            row += 4;
                        } else {
                            K::finish::<1>(&product, last, row, from);
                            row += 1;
                        }
                    }
                }
                if turn < turns {
                    let to = tiles.add(turn % 2 * 4);
                    asm!(
                        "tilestored [{to} + {line}], tmm0",
                        "tilestored [{to} + {line} + 1024], tmm1",
                        "tilestored [{to} + {line} + 2048], tmm2",
                        to = in(reg) to,
                        line = in(reg) LINE,
                        options(nostack, preserves_flags)
                    );
                    if K::BLOCKS == 2 {
                        asm!(
                            "tilestored [{to} + {line}], tmm3",
                            to = in(reg) to.add(3),
                            line = in(reg) LINE,
                            options(nostack, preserves_flags)
                        );
                    }
                }
                last = now;
            }
            asm!("tilerelease", options(nostack, nomem, preserves_flags));
        }
    }

    /// The sums of a row as [`Dot::carry`] leaves them, from the tiles of `w0 x0`, `w1 x0 + w0 x1` and `w1 x1`.
    ///
    /// # Safety
    /// The CPU has AVX-512; the row of the first of three tiles is at `from`.
    #[inline(always)]
    unsafe fn words(from: *const [i32; PANEL]) -> [__m512i; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let [low, middle, high] = planes(from);
            // floor((2^16 high + 2^8 middle + low) / 2^16), and what is left.
            let carried = _mm512_add_epi32(middle, _mm512_srai_epi32::<8>(low));
            let upper = _mm512_add_epi32(high, _mm512_srai_epi32::<8>(carried));
            let sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(middle), low);
            [_mm512_and_si512(sum, _mm512_set1_epi32((1 << CARRIED) - 1)), upper]
        }
    }

    /// The sums of a row that fit 32 bits, from the same tiles.
    ///
    /// # Safety
    /// As [`words`].
    #[inline(always)]
    unsafe fn sum_of_planes(from: *const [i32; PANEL]) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe {
            let [low, middle, high] = planes(from);
            let upper = _mm512_add_epi32(middle, _mm512_slli_epi32::<8>(high));
            _mm512_add_epi32(low, _mm512_slli_epi32::<8>(upper))
        }
    }

    /// # Safety
    /// As [`words`].
    #[inline(always)]
    unsafe fn planes(from: *const [i32; PANEL]) -> [__m512i; 3] {
        // SAFETY: the caller's promise.
        unsafe { [__m512i::of(from), __m512i::of(from.add(BLOCK)), __m512i::of(from.add(2 * BLOCK))] }
    }
}
