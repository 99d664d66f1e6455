//! Where every value lies: one memory of f32 with a region per stage, laid out before the first call.
//!
//! Scenario and request values have one row and keep their place. Candidate values have one row per candidate of the tile,
//! and share their place with values whose life is over. The parts of a concatenation are computed where they end up, a
//! slice is a view; only what a concatenation needs a second time, or from a slower stage, is copied.

use super::Stage;
use crate::network::graph::{Graph, Op, Value};
use crate::ops::Span;

/// Rows start at a multiple of this many f32: 64 bytes.
const ALIGNMENT: usize = 16;

/// A copy of a value into its part of a concatenation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    pub part: Value,
    pub to: Span,
}

/// The layout of a memory of `length` f32.
#[derive(Debug)]
pub struct Arena {
    /// The span of every value, as its own stage writes it.
    pub spans: Vec<Span>,
    /// The copies that complete each concatenation; empty for other values.
    pub transfers: Vec<Vec<Transfer>>,
    pub scenario_length: usize,
    pub length: usize,
}

#[derive(Clone, Copy)]
enum Home {
    /// A buffer of its own.
    Own,
    /// Columns of another value from `column`.
    Inside { whole: Value, column: usize },
}

/// Lays out `graph`, whose values are computed at `stages`, for tiles of `tile` candidates.
pub fn arrange(graph: &Graph, stages: &[Stage], tile: usize) -> Arena {
    let homes = find_homes(graph, stages);
    let place = |value: Value| -> (Value, usize) {
        let (mut value, mut column) = (value, 0);
        while let Home::Inside { whole, column: at } = homes[value.0].home {
            column += at;
            value = whole;
        }
        (value, column)
    };
    let lives = find_lives(graph, &place);

    let mut buffers: Vec<Option<(usize, usize)>> = vec![None; graph.nodes.len()];
    let mut length = 0;
    let mut scenario_length = 0;
    for stage in [Stage::Scenario, Stage::Request] {
        for value in (0..graph.nodes.len()).filter(|value| stages[*value] == stage) {
            if matches!(homes[value].home, Home::Own) {
                buffers[value] = Some((length, 0));
                length += padded(graph.nodes[value].width);
            }
        }
        if stage == Stage::Scenario {
            scenario_length = length;
        }
    }
    length = place_candidates(graph, stages, &homes, &lives, tile, length, &mut buffers);

    let span = |value: Value| {
        let (whole, column) = place(value);
        let (offset, stride) = buffers[whole.0].unwrap_or_default();
        Span { offset: offset + column, stride, width: graph.width(value) }
    };
    let spans: Vec<Span> = (0..graph.nodes.len()).map(|value| span(Value(value))).collect();
    let transfers = homes
        .iter()
        .enumerate()
        .map(|(value, home)| {
            let whole = spans[value];
            let transfer = |&(part, column): &(Value, usize)| {
                let to = Span { offset: whole.offset + column, stride: whole.stride, width: graph.width(part) };
                Transfer { part, to }
            };
            home.copied.iter().map(transfer).collect()
        })
        .collect();
    Arena { spans, transfers, scenario_length, length }
}

struct Settled {
    home: Home,
    /// Parts that a concatenation could not adopt, with their columns.
    copied: Vec<(Value, usize)>,
}

fn find_homes(graph: &Graph, stages: &[Stage]) -> Vec<Settled> {
    let mut homes: Vec<Settled> =
        (0..graph.nodes.len()).map(|_| Settled { home: Home::Own, copied: Vec::new() }).collect();
    for (index, node) in graph.nodes.iter().enumerate() {
        match &node.op {
            Op::Slice { input, start } => homes[index].home = Home::Inside { whole: *input, column: *start },
            Op::Concat(parts) => {
                if let Some(home) = already_adjacent(graph, &homes, parts, stages, stages[index]) {
                    homes[index].home = home;
                    continue;
                }
                let mut column = 0;
                for part in parts {
                    let is_free = matches!(homes[part.0].home, Home::Own) && stages[part.0] == stages[index];
                    if is_free {
                        homes[part.0].home = Home::Inside { whole: Value(index), column };
                    } else {
                        homes[index].copied.push((*part, column));
                    }
                    column += graph.width(*part);
                }
            }
            _ => {}
        }
    }
    homes
}

/// Whether the parts lie side by side in another value already: then their concatenation is a view of it.
fn already_adjacent(graph: &Graph, homes: &[Settled], parts: &[Value], stages: &[Stage], stage: Stage) -> Option<Home> {
    let inside = |part: Value| match homes[part.0].home {
        Home::Inside { whole, column } if stages[part.0] == stage => Some((whole, column)),
        _ => None,
    };
    let (whole, first) = inside(*parts.first()?)?;
    let mut next = first;
    for part in parts {
        if inside(*part)? != (whole, next) {
            return None;
        }
        next += graph.width(*part);
    }
    Some(Home::Inside { whole, column: first })
}

/// The first and last node at which the buffer of each value is in use.
fn find_lives(graph: &Graph, place: &impl Fn(Value) -> (Value, usize)) -> Vec<(usize, usize)> {
    let mut lives = vec![(usize::MAX, 0); graph.nodes.len()];
    let mut touch = |value: Value, at: usize| {
        let life = &mut lives[place(value).0.0];
        *life = (life.0.min(at), life.1.max(at));
    };
    for (index, node) in graph.nodes.iter().enumerate() {
        touch(Value(index), index);
        node.op.inputs(|value| touch(value, index));
    }
    graph.outputs.iter().flatten().for_each(|output| touch(*output, graph.nodes.len()));
    lives
}

/// First fit, largest first, among the buffers alive at the same time.
fn place_candidates(
    graph: &Graph,
    stages: &[Stage],
    homes: &[Settled],
    lives: &[(usize, usize)],
    tile: usize,
    base: usize,
    buffers: &mut [Option<(usize, usize)>],
) -> usize {
    let mut order: Vec<usize> = (0..graph.nodes.len())
        .filter(|value| stages[*value] == Stage::Candidate && matches!(homes[*value].home, Home::Own))
        .collect();
    order.sort_by_key(|value| std::cmp::Reverse(graph.nodes[*value].width));
    let mut end = base;
    let mut placed: Vec<usize> = Vec::with_capacity(order.len());
    for value in order {
        let stride = padded(graph.nodes[value].width);
        let life = lives[value];
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|other| lives[**other].0 <= life.1 && life.0 <= lives[**other].1)
            .filter_map(|other| buffers[*other].map(|(offset, stride)| (offset, offset + stride * tile)))
            .collect();
        taken.sort_unstable();
        let mut offset = base;
        for (start, stop) in taken {
            if offset + stride * tile <= start {
                break;
            }
            offset = offset.max(stop);
        }
        buffers[value] = Some((offset, stride));
        end = end.max(offset + stride * tile);
        placed.push(value);
    }
    end
}

fn padded(width: usize) -> usize {
    width.next_multiple_of(ALIGNMENT)
}
