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
    use crate::kernels::dots::{Bytes, CARRIED, Dot, FusedPairs, Planes, Rows, Words};
    use crate::kernels::lanes::Lanes;
    use crate::kernels::list::Functions;
    use crate::kernels::panels::PANEL;
    use crate::kernels::tile::Layer;
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

    /// Rows of a tile register, and 32-bit columns.
    const BLOCK: usize = 16;
    /// Bytes of a tile register: of inputs, weights or sums.
    const TILE_BYTES: usize = 1024;
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

    unsafe fn dense(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
        // SAFETY: the caller's promise, handed on.
        unsafe {
            match call.weights.weight_type() {
                Weight::Int8 if rows >= FEWEST_ROWS && call.input.stride > 0 => bytes(memory, rows, call),
                Weight::Int12 | Weight::Int16 if rows >= FEWEST_ROWS && call.input.stride > 0 => {
                    planes(memory, rows, call)
                }
                _ => (WITH_BF16.dense)(memory, rows, call),
            }
        }
    }

    unsafe fn pairs(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
        // SAFETY: the caller's promise, handed on.
        unsafe {
            if rows >= FEWEST_ROWS && call.input.stride > 0 {
                floats(memory, rows, call);
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

    /// Finishes the rows from `row` on of up to two panels with the sums of two tiles.
    ///
    /// # Safety
    /// As [`Rows::finish`].
    #[inline(always)]
    unsafe fn finish_pair<K>(
        memory: *mut f32,
        [row, count, panel, panels]: [usize; 4],
        inputs: &Rows,
        layer: &Layer<'_>,
        weights: &Panels,
        from: *const [i32; PANEL],
    ) where
        Avx512: Dot<K, Sums: Lined>,
    {
        // SAFETY: the caller's promise.
        unsafe {
            let at = |r: usize, p: usize| <<Avx512 as Dot<K>>::Sums as Lined>::of(from.add(r + p * BLOCK));
            if panel + 1 == panels {
                for r in 0..count {
                    inputs.finish::<Avx512, K, 1, 1>(memory, row + r, panel, layer, weights, ([[at(r, 0)]], None));
                }
                return;
            }
            let mut r = 0;
            while r + 4 <= count {
                let sums = [
                    [at(r, 0), at(r, 1)],
                    [at(r + 1, 0), at(r + 1, 1)],
                    [at(r + 2, 0), at(r + 2, 1)],
                    [at(r + 3, 0), at(r + 3, 1)],
                ];
                inputs.finish::<Avx512, K, 4, 2>(memory, row + r, panel, layer, weights, (sums, None));
                r += 4;
            }
            while r < count {
                let sums = [[at(r, 0), at(r, 1)]];
                inputs.finish::<Avx512, K, 1, 2>(memory, row + r, panel, layer, weights, (sums, None));
                r += 1;
            }
        }
    }

    /// A product of one kind, by its instruction: 1 or 2 blocks of 16 rows by 1 or 2 panels.
    macro_rules! tiled {
        ($name:ident, $kind:ty, $instruction:literal) => {
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
            fn $name(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
                let memory = memory.as_mut_ptr();
                let (layer, weights) = (Layer::of(call), call.weights);
                // SAFETY: the callers checked the CPU, spans and scratch; rows of inputs are read in blocks of 16 and weights
                // in blocks of 16 words, and both have room for that.
                unsafe {
                    let inputs = Rows::quantize::<Avx512, $kind>(memory, rows, call);
                    asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack));
                    let steps = weights.panel_bytes() / TILE_BYTES;
                    let panels = call.output.width.div_ceil(PANEL);
                    let mut sums = MaybeUninit::<Sums>::uninit();
                    let tiles: *mut [[i32; PANEL]; BLOCK] = sums.as_mut_ptr().cast();
                    let pairs = rows.div_ceil(2 * BLOCK);
                    let turns = pairs * panels.div_ceil(2);
                    let place = |turn: usize| (turn % pairs * 2 * BLOCK, turn / pairs * 2, tiles.add(turn % 2 * 4));
                    for turn in 0..=turns {
                        if turn < turns {
                            let (row, panel, to) = place(turn);
                            let first = weights.weights().add(panel * weights.panel_bytes());
                            let second = if panel + 1 < panels { first.add(weights.panel_bytes()) } else { first };
                            if row + BLOCK < rows {
                                asm!(
                                    "tilezero tmm0",
                                    "tilezero tmm1",
                                    "tilezero tmm2",
                                    "tilezero tmm3",
                                    "2:",
                                    "tileloadd tmm4, [{x} + {row}]",
                                    "tileloadd tmm6, [{w} + {line}]",
                                    concat!($instruction, " tmm0, tmm4, tmm6"),
                                    "tileloadd tmm5, [{y} + {row}]",
                                    concat!($instruction, " tmm2, tmm5, tmm6"),
                                    "tileloadd tmm7, [{v} + {line}]",
                                    concat!($instruction, " tmm1, tmm4, tmm7"),
                                    concat!($instruction, " tmm3, tmm5, tmm7"),
                                    "add {x}, 64",
                                    "add {y}, 64",
                                    "add {w}, 1024",
                                    "add {v}, 1024",
                                    "dec {steps}",
                                    "jnz 2b",
                                    "tilestored [{to} + {line}], tmm0",
                                    "tilestored [{to} + {line} + 1024], tmm1",
                                    "tilestored [{to} + {line} + 2048], tmm2",
                                    "tilestored [{to} + {line} + 3072], tmm3",
                                    x = inout(reg) inputs.row(row) => _,
                                    y = inout(reg) inputs.row(row + BLOCK) => _,
                                    w = inout(reg) first => _,
                                    v = inout(reg) second => _,
                                    steps = inout(reg) steps => _,
                                    row = in(reg) inputs.row_bytes,
                                    line = in(reg) 64usize,
                                    to = in(reg) to,
                                    options(nostack)
                                );
                            } else {
                                asm!(
                                    "tilezero tmm0",
                                    "tilezero tmm1",
                                    "2:",
                                    "tileloadd tmm4, [{x} + {row}]",
                                    "tileloadd tmm6, [{w} + {line}]",
                                    concat!($instruction, " tmm0, tmm4, tmm6"),
                                    "tileloadd tmm7, [{v} + {line}]",
                                    concat!($instruction, " tmm1, tmm4, tmm7"),
                                    "add {x}, 64",
                                    "add {w}, 1024",
                                    "add {v}, 1024",
                                    "dec {steps}",
                                    "jnz 2b",
                                    "tilestored [{to} + {line}], tmm0",
                                    "tilestored [{to} + {line} + 1024], tmm1",
                                    x = inout(reg) inputs.row(row) => _,
                                    w = inout(reg) first => _,
                                    v = inout(reg) second => _,
                                    steps = inout(reg) steps => _,
                                    row = in(reg) inputs.row_bytes,
                                    line = in(reg) 64usize,
                                    to = in(reg) to,
                                    options(nostack)
                                );
                            }
                        }
                        if let Some(last) = turn.checked_sub(1) {
                            let (row, panel, from) = place(last);
                            for (block, row) in (row..rows).step_by(BLOCK).take(2).enumerate() {
                                let place = [row, (rows - row).min(BLOCK), panel, panels];
                                let from = from.add(2 * block).cast_const().cast();
                                finish_pair::<$kind>(memory, place, &inputs, &layer, weights, from);
                            }
                        }
                    }
                    asm!("tilerelease", options(nostack, nomem));
                }
            }
        };
    }

    tiled! { bytes, Bytes, "tdpbusd" }
    tiled! { floats, FusedPairs, "tdpbf16ps" }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    fn planes(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
        let memory = memory.as_mut_ptr();
        let (layer, weights) = (Layer::of(call), call.weights);
        // SAFETY: as for the others.
        unsafe {
            let inputs = Rows::quantize::<Avx512, Planes>(memory, rows, call);
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack));
            let plane_bytes = weights.plane_bytes();
            let steps = plane_bytes / TILE_BYTES;
            let mut sums = MaybeUninit::<Sums>::uninit();
            let tiles: *mut [[i32; PANEL]; BLOCK] = sums.as_mut_ptr().cast();
            let blocks = rows.div_ceil(BLOCK);
            let turns = blocks * call.output.width.div_ceil(PANEL);
            let place = |turn: usize| (turn % blocks * BLOCK, turn / blocks, tiles.add(turn % 2 * 4));
            for turn in 0..=turns {
                if turn < turns {
                    let (row, panel, to) = place(turn);
                    let weight = weights.planes().add(panel * 2 * plane_bytes);
                    let input = inputs.row(row);
                    asm!(
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "2:",
                        "tileloadd tmm3, [{x} + {row}]",
                        "tileloadd tmm5, [{w} + {line}]",
                        "tdpbuud tmm0, tmm3, tmm5",
                        "tileloadd tmm4, [{y} + {row}]",
                        "tdpbsud tmm1, tmm4, tmm5",
                        "tileloadd tmm6, [{v} + {line}]",
                        "tdpbssd tmm2, tmm4, tmm6",
                        "tdpbusd tmm1, tmm3, tmm6",
                        "add {x}, 64",
                        "add {y}, 64",
                        "add {w}, 1024",
                        "add {v}, 1024",
                        "dec {steps}",
                        "jnz 2b",
                        "tilestored [{to} + {line}], tmm0",
                        "tilestored [{to} + {line} + 1024], tmm1",
                        "tilestored [{to} + {line} + 2048], tmm2",
                        x = inout(reg) input => _,
                        y = inout(reg) input.add(inputs.row_bytes / 2) => _,
                        w = inout(reg) weight => _,
                        v = inout(reg) weight.add(plane_bytes) => _,
                        steps = inout(reg) steps => _,
                        row = in(reg) inputs.row_bytes,
                        line = in(reg) 64usize,
                        to = in(reg) to,
                        options(nostack)
                    );
                }
                if let Some(last) = turn.checked_sub(1) {
                    let (row, panel, from) = place(last);
                    let from = from.cast_const().cast();
                    let count = (rows - row).min(BLOCK);
                    let mut r = 0;
                    while r + 4 <= count {
                        let parts = [words(from, r), words(from, r + 1), words(from, r + 2), words(from, r + 3)];
                        let sums = [[parts[0][0]], [parts[1][0]], [parts[2][0]], [parts[3][0]]];
                        let uppers = Some([[parts[0][1]], [parts[1][1]], [parts[2][1]], [parts[3][1]]]);
                        inputs.finish::<Avx512, Words, 4, 1>(memory, row + r, panel, &layer, weights, (sums, uppers));
                        r += 4;
                    }
                    while r < count {
                        let [lower, upper] = words(from, r);
                        inputs.finish::<Avx512, Words, 1, 1>(
                            memory,
                            row + r,
                            panel,
                            &layer,
                            weights,
                            ([[lower]], Some([[upper]])),
                        );
                        r += 1;
                    }
                }
            }
            asm!("tilerelease", options(nostack, nomem));
        }
    }

    /// The sums of a row as [`Dot::carry`] leaves them, from the tiles of `w0 x0`, `w1 x0 + w0 x1` and `w1 x1`.
    ///
    /// # Safety
    /// The CPU has AVX-512; three tiles are at `from`.
    #[inline(always)]
    unsafe fn words(from: *const [i32; PANEL], row: usize) -> [__m512i; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let at = from.add(row);
            let (low, middle, high) = (__m512i::of(at), __m512i::of(at.add(BLOCK)), __m512i::of(at.add(2 * BLOCK)));
            // floor((2^16 high + 2^8 middle + low) / 2^16), and what is left.
            let carried = _mm512_add_epi32(middle, _mm512_srai_epi32::<8>(low));
            let upper = _mm512_add_epi32(high, _mm512_srai_epi32::<8>(carried));
            let sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(middle), low);
            [_mm512_and_si512(sum, _mm512_set1_epi32((1 << CARRIED) - 1)), upper]
        }
    }
}
