//! Where every value lies: one memory of f32 with a region per stage, laid out before the first call.
//!
//! ```text
//! | model inputs | scenario inputs | request | candidate || scenario matrices | scenario rest | model rest |
//!                                            scoring ends ^
//! ```
//! Values of the model and of the scenario are kept outside, so a scorer needs a place only for those that later stages read
//! as inputs; what they only multiply by is read where it is kept. The rest is for computing them. Model, scenario and request
//! values have one row, or one per position, and keep their place. Candidate values have one row per candidate of the tile, or
//! one per position of a single candidate (in a block), and share their place with values whose life is over. The parts of a
//! concatenation are computed where they end up, a slice is a view; only what a concatenation needs a second time, or from
//! another stage, is copied.

use super::Stage;
use crate::format::Description;
use crate::network::graph::{Graph, Matrix, Node, Op, Value};
use crate::ops::{Attend, Span, Weight};
use std::collections::BTreeSet;
use std::ops::Range;

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
    /// The row of one candidate, for values that cross the edge of a block.
    pub staged: Vec<Option<Span>>,
    /// Room that an operation needs besides its value.
    pub scratch: Vec<Option<Span>>,
    /// The copies that complete each concatenation; empty for other values.
    pub transfers: Vec<Vec<Transfer>>,
    /// What an item cache keeps of item steps: parts of rows that do not overlap.
    pub items: Vec<Value>,
    pub regions: Regions,
}

/// The parts of the memory that hold what is kept outside, and its ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Regions {
    /// Model values that request and candidate steps read as inputs.
    pub model_inputs: Range<usize>,
    /// Scenario values that they read as inputs.
    pub scenario_inputs: Range<usize>,
    /// Values of the request; they begin where the scenario's inputs end.
    pub request: Range<usize>,
    /// Scenario values that they only multiply by.
    pub scenario_matrices: Range<usize>,
    /// All other model values.
    pub model_rest: Range<usize>,
    /// What a scorer needs that computes no model and no scenario values.
    pub scoring: usize,
    /// What one needs that computes them.
    pub whole: usize,
}

impl Regions {
    /// f32 kept for each scenario.
    pub fn per_scenario(&self) -> usize {
        self.scenario_inputs.len() + self.scenario_matrices.len()
    }
}

/// What the layout is made for.
pub struct Layout<'a> {
    pub graph: &'a Graph,
    pub description: &'a Description,
    pub stages: &'a [Stage],
    /// Whether each value is computed in a block.
    pub in_block: &'a [bool],
    /// Whether each value depends on the scenario.
    pub dependents: &'a [bool],
    /// The types of the weights of dense layers.
    pub weights: &'a [Option<Weight>],
    /// The node that quantises the rows of each dense layer.
    pub quantized: &'a [usize],
    pub tile: usize,
}

/// What request and candidate steps do with a value of the model or the scenario, least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// Nothing: only slower stages read it.
    Own,
    /// They multiply by it.
    Matrix,
    /// They read it.
    Input,
}

#[derive(Clone, Copy)]
enum Home {
    /// A buffer of its own.
    Own,
    /// Columns of another value from `column`.
    Inside { whole: Value, column: usize },
}

struct Settled {
    home: Home,
    /// Parts that a concatenation could not adopt, with their columns.
    copied: Vec<(Value, usize)>,
}

/// A buffer that shares memory with others: rows, stride, and the first and last step that use it.
struct Buffer {
    rows: usize,
    stride: usize,
    life: (usize, usize),
}

impl Layout<'_> {
    /// Lays out the graph, whose nodes are in the order in which they run.
    pub fn arrange(&self) -> Arena {
        let graph = self.graph;
        let count = graph.nodes.len();
        let homes = self.find_homes();
        let place = |value: Value| -> (Value, usize) {
            let (mut value, mut column) = (value, 0);
            while let Home::Inside { whole, column: at } = homes[value.0].home {
                column += at;
                value = whole;
            }
            (value, column)
        };

        let mut buffers: Vec<(usize, usize)> = vec![(0, 0); count];
        let uses = self.kept_uses(&place);
        let mut length = 0;
        let mut regions = Regions::default();
        let mut put = |stage: Stage, is_used: &dyn Fn(Use) -> bool, length: &mut usize| {
            let start = *length;
            for value in 0..count {
                if self.stages[value] == stage && uses[value].is_some_and(is_used) {
                    buffers[value] = (*length, 0);
                    *length += padded(graph.nodes[value].width);
                }
            }
            start..*length
        };
        regions.model_inputs = put(Stage::Model, &|used| used == Use::Input, &mut length);
        regions.scenario_inputs = put(Stage::Scenario, &|used| used == Use::Input, &mut length);
        let mut behind = 0;
        let matrices = put(Stage::Scenario, &|used| used == Use::Matrix, &mut behind);
        put(Stage::Scenario, &|used| used == Use::Own, &mut behind);
        let rest = put(Stage::Model, &|used| used != Use::Input, &mut behind);
        let is_own = |value: &usize| matches!(homes[*value].home, Home::Own);
        let request = |value: &usize| self.stages[*value] == Stage::Request;
        for value in (0..count).filter(request).filter(is_own) {
            let stride = padded(graph.nodes[value].width);
            let rows = self.rows(Value(value));
            buffers[value] = (length, if graph.nodes[value].sequence.is_some() { stride } else { 0 });
            length += stride * rows;
        }
        regions.request = regions.scenario_inputs.end..length;

        let (staged, lives) = self.find_lives(&place);
        let own: Vec<usize> = (0..count).filter(|v| self.stages[*v].is_of_candidates()).filter(is_own).collect();
        let mut shared: Vec<Buffer> = Vec::new();
        for value in &own {
            let (rows, stride) = (self.rows(Value(*value)), padded(graph.nodes[*value].width));
            shared.push(Buffer { rows, stride, life: lives[*value] });
        }
        for (value, life) in &staged {
            shared.push(Buffer { rows: 1, stride: padded(graph.width(*value)), life: *life });
        }
        let mut extra = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            let needed = self.scratch(node, index);
            if needed > 0 && self.quantized[index] == index {
                extra.push(index);
                let last = self.quantized.iter().rposition(|first| *first == index).unwrap_or(index);
                let life = if self.stages[index].is_of_candidates() { (index, last) } else { (0, count) };
                shared.push(Buffer { rows: 1, stride: padded(needed), life });
            }
        }
        let (offsets, length) = place_shared(&shared, length);
        let is_behind = |value: usize| match self.stages[value] {
            Stage::Model | Stage::Scenario => uses[value].is_some_and(|used| used != Use::Input),
            Stage::Request | Stage::Item | Stage::Candidate => false,
        };
        let length = length.next_multiple_of(ALIGNMENT);
        for value in (0..count).filter(|value| is_behind(*value)) {
            buffers[value].0 += length;
        }
        regions.scenario_matrices = matrices.start + length..matrices.end + length;
        regions.model_rest = rest.start + length..rest.end + length;
        (regions.scoring, regions.whole) = (length, length + behind);
        for (place, value) in own.iter().enumerate() {
            buffers[*value] = (offsets[place], shared[place].stride);
        }
        let single = |place: usize, width: usize| Span { offset: offsets[place], stride: 0, width };
        let mut stage_spans = vec![None; count];
        for (place, (value, _)) in staged.iter().enumerate() {
            stage_spans[value.0] = Some(single(own.len() + place, graph.width(*value)));
        }
        let mut scratch = vec![None; count];
        for (place, index) in extra.iter().enumerate() {
            let place = own.len() + staged.len() + place;
            scratch[*index] = Some(single(place, shared[place].stride));
        }
        let scratch = self.quantized.iter().map(|first| scratch[*first]).collect();

        let span = |value: Value| {
            let (whole, column) = place(value);
            let (offset, stride) = buffers[whole.0];
            Span { offset: offset + column, stride, width: graph.width(value) }
        };
        let spans: Vec<Span> = (0..count).map(|value| span(Value(value))).collect();
        let transfers = homes.iter().enumerate().map(|(value, settled)| {
            let whole = spans[value];
            let transfer = |&(part, column): &(Value, usize)| {
                let to = Span { offset: whole.offset + column, stride: whole.stride, width: graph.width(part) };
                Transfer { part, to }
            };
            settled.copied.iter().map(transfer).collect()
        });
        let transfers = transfers.collect();
        let items = self.item_values().into_iter().collect();
        Arena { transfers, items, spans, staged: stage_spans, scratch, regions }
    }

    /// The values of item steps that an item cache keeps.
    fn item_values(&self) -> BTreeSet<Value> {
        let kept = |node: &Node| if let Op::Cached { input, .. } = node.op { Some(input) } else { None };
        self.graph.nodes.iter().filter_map(kept).collect()
    }

    /// f32 that a node needs besides its value.
    fn scratch(&self, node: &Node, index: usize) -> usize {
        match (&node.op, self.weights[index]) {
            (Op::Attend { keys, .. }, _) => Attend::scratch(self.graph.width(*keys), node.width),
            (Op::Product { input, groups, .. }, Some(weights)) => {
                let rows = self.rows(Value(index)).max(*groups);
                weights.scratch(self.graph.width(*input) / groups, rows)
            }
            _ => 0,
        }
    }

    fn length_of(&self, value: Value) -> usize {
        self.graph.sequence(value).map_or(1, |group| self.description.sequence_length(group))
    }

    /// How many rows a value has at most.
    fn rows(&self, value: Value) -> usize {
        match (self.graph.sequence(value), self.stages[value.0]) {
            (Some(_), _) => self.length_of(value),
            (None, stage) if stage.is_of_candidates() => self.tile,
            (None, _) => 1,
        }
    }

    fn find_homes(&self) -> Vec<Settled> {
        let graph = self.graph;
        let mut homes: Vec<Settled> =
            graph.nodes.iter().map(|_| Settled { home: Home::Own, copied: Vec::new() }).collect();
        for (index, node) in graph.nodes.iter().enumerate() {
            match &node.op {
                Op::Slice { input, start } => homes[index].home = Home::Inside { whole: *input, column: *start },
                Op::Concat(parts) => {
                    if let Some(home) = self.already_adjacent(&homes, parts, index) {
                        homes[index].home = home;
                        continue;
                    }
                    let mut column = 0;
                    for part in parts {
                        if matches!(homes[part.0].home, Home::Own) && self.is_alike(*part, index) {
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

    /// Whether a value has the rows that node `index` has, computed at the same time.
    fn is_alike(&self, value: Value, index: usize) -> bool {
        self.stages[value.0] == self.stages[index] && self.graph.sequence(value) == self.graph.nodes[index].sequence
    }

    /// Whether the parts lie side by side in another value already: then their concatenation is a view of it.
    fn already_adjacent(&self, homes: &[Settled], parts: &[Value], index: usize) -> Option<Home> {
        let inside = |part: Value| match homes[part.0].home {
            Home::Inside { whole, column } if self.is_alike(part, index) => Some((whole, column)),
            _ => None,
        };
        let (whole, first) = inside(*parts.first()?)?;
        let mut next = first;
        for part in parts {
            if inside(*part)? != (whole, next) {
                return None;
            }
            next += self.graph.width(*part);
        }
        Some(Home::Inside { whole, column: first })
    }

    /// How request and candidate steps use each buffer of a model or scenario value; `None` for other values, and for those
    /// that lie inside another.
    fn kept_uses(&self, place: &impl Fn(Value) -> (Value, usize)) -> Vec<Option<Use>> {
        let is_kept = |value: usize| matches!(self.stages[value], Stage::Model | Stage::Scenario);
        let mut uses: Vec<Option<Use>> = vec![None; self.graph.nodes.len()];
        for value in (0..self.graph.nodes.len()).filter(|value| is_kept(*value)) {
            uses[place(Value(value)).0.0] = Some(Use::Own);
        }
        let mut read = |value: Value, used: Use| {
            if is_kept(value.0) {
                let known = &mut uses[place(value).0.0];
                *known = (*known).max(Some(used));
            }
        };
        for node in self.graph.nodes.iter().enumerate().filter(|(index, _)| !is_kept(*index)).map(|(_, node)| node) {
            let matrix = match &node.op {
                Op::Product { matrix: Matrix::Value(matrix), .. } => Some(*matrix),
                _ => None,
            };
            for (place, value) in node.op.inputs().into_iter().enumerate() {
                // A product's second input is its matrix.
                let is_matrix = place == 1 && matrix == Some(value);
                read(value, if is_matrix { Use::Matrix } else { Use::Input });
            }
        }
        self.graph.outputs.iter().flatten().for_each(|output| read(*output, Use::Input));
        uses
    }

    /// The values that cross the edge of a block, with the life of their staged row; and the first and last step at which the
    /// buffer of each value is in use.
    #[expect(clippy::type_complexity, reason = "two lists")]
    fn find_lives(
        &self,
        place: &impl Fn(Value) -> (Value, usize),
    ) -> (Vec<(Value, (usize, usize))>, Vec<(usize, usize)>) {
        let graph = self.graph;
        let mut lives = vec![(usize::MAX, 0); graph.nodes.len()];
        let mut staged: Vec<(Value, (usize, usize))> = Vec::new();
        let mut touch = |value: Value, at: usize| {
            let life = &mut lives[place(value).0.0];
            *life = (life.0.min(at), life.1.max(at));
        };
        let ends = block_ends(self.in_block, self.dependents);
        for (index, node) in graph.nodes.iter().enumerate() {
            touch(Value(index), index);
            let (start, end) = ends[index];
            if self.in_block[index] && graph.nodes[index].sequence.is_none() {
                touch(Value(index), start);
                stage(&mut staged, Value(index), (start, end));
            }
            // What is kept of an item is read from the row of its cache.
            let is_item = |value: &Value| self.stages[value.0] == Stage::Item && self.stages[index] != Stage::Item;
            for value in node.op.inputs().into_iter().filter(|value| !is_item(value)) {
                touch(value, index);
                let is_row = self.stages[value.0].is_of_candidates() && graph.sequence(value).is_none();
                if self.in_block[index] && is_row {
                    touch(value, end);
                    stage(&mut staged, value, (start, end));
                }
                // Steps of a further scenario read it again.
                if self.dependents[index] && !self.dependents[value.0] {
                    touch(value, graph.nodes.len());
                }
            }
        }
        graph.outputs.iter().flatten().for_each(|output| touch(*output, graph.nodes.len()));
        // Rows are made of them when all are there.
        if let Some(last) = self.stages.iter().rposition(|stage| *stage == Stage::Item) {
            self.item_values().into_iter().for_each(|value| touch(value, last));
        }
        (staged, lives)
    }
}

fn stage(staged: &mut Vec<(Value, (usize, usize))>, value: Value, life: (usize, usize)) {
    match staged.iter_mut().find(|(known, _)| *known == value) {
        Some((_, known)) => *known = (known.0.min(life.0), known.1.max(life.1)),
        None => staged.push((value, life)),
    }
}

/// The first and last node of the block of each node; itself for a node outside. What depends on the scenario and what does
/// not are different blocks.
pub fn block_ends(in_block: &[bool], dependents: &[bool]) -> Vec<(usize, usize)> {
    let mut ends: Vec<(usize, usize)> = (0..in_block.len()).map(|index| (index, index)).collect();
    let is_joined = |index: usize| in_block[index] && in_block[index - 1] && dependents[index] == dependents[index - 1];
    for index in (1..in_block.len()).filter(|index| is_joined(*index)) {
        ends[index].0 = ends[index - 1].0;
    }
    for index in (1..in_block.len()).rev().filter(|index| is_joined(*index)) {
        ends[index - 1].1 = ends[index].1;
    }
    ends
}

/// First fit, largest first, among the buffers alive at the same time. Returns the offsets, from `base` on, and the end.
fn place_shared(buffers: &[Buffer], base: usize) -> (Vec<usize>, usize) {
    let size = |buffer: &Buffer| buffer.stride.saturating_mul(buffer.rows);
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|place| std::cmp::Reverse(size(&buffers[*place])));
    let mut offsets = vec![base; buffers.len()];
    let mut end = base;
    let mut placed: Vec<usize> = Vec::with_capacity(order.len());
    for place in order {
        let buffer = &buffers[place];
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|other| buffers[**other].life.0 <= buffer.life.1 && buffer.life.0 <= buffers[**other].life.1)
            .map(|other| (offsets[*other], offsets[*other] + size(&buffers[*other])))
            .collect();
        taken.sort_unstable();
        let mut offset = base;
        for (start, stop) in taken {
            if offset + size(buffer) <= start {
                break;
            }
            offset = offset.max(stop);
        }
        offsets[place] = offset;
        end = end.max(offset.saturating_add(size(buffer)));
        placed.push(place);
    }
    (offsets, end)
}

fn padded(width: usize) -> usize {
    width.next_multiple_of(ALIGNMENT)
}
