//! Product tables: a single id of the request finds its share of the first layers ready-made.
//!
//! For a field with few rows, row times columns of the weight is a constant of the model. The share that the request has of
//! every layer that reads such fields becomes a sum of rows, one for each field, which are as wide as these layers together:
//! instead of the weights of a field, `depth x outputs`, a request reads one row of `outputs`. Fields are taken while their
//! tables fit into the budget, those with the fewest rows for their depth first. The tables are f32, made from the weights as
//! they are stored, whatever precision the layers have.
//!
//! A sum of rows rounds in another order than a chain of multiply-adds, so the bits of a score depend on the budget; they
//! depend on nothing else, as all scorers of a model have the same tables.

use super::rewrite::rewrite;
use crate::format::{Description, FeatureKind, Store, TensorId};
use crate::network::Rate;
use crate::network::graph::{Columns, Field, Graph, Layer, Matrix, Op, Start, TabulatedLayer, Value};
use crate::ops::{Activation, Combine, Spread};

/// The least inputs of a field for which a row is worth its cache lines.
const LEAST_DEPTH: usize = 8;

/// What the pass reads of a model.
pub struct Tables<'a> {
    pub description: &'a Description,
    pub store: &'a Store,
    /// The tables of the features, by slot.
    pub tables: &'a [Option<TensorId>],
    /// The declared rates, by slot.
    pub rates: &'a [Rate],
}

/// A field of the products that it is read by.
struct Candidate {
    field: Field,
    rows: usize,
    depth: usize,
    /// Of all layers together.
    outputs: usize,
}

/// The layers whose shares are summed together, and how wide they are.
struct Group {
    fields: Vec<Field>,
    layers: Vec<TabulatedLayer>,
    width: usize,
}

/// `graph` with product tables of at most `budget` bytes.
pub fn tabulate(graph: &Graph, model: &Tables<'_>, budget: usize) -> Graph {
    let fields = model.choose(graph, budget);
    let mut groups: Vec<Group> = Vec::new();
    // For each node the group that it is a layer of, and its first output there.
    let mut places: Vec<Option<(usize, usize)>> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let Some(share) = model.share(graph, &node.op, &fields) else {
            places.push(None);
            continue;
        };
        let group = groups.iter().position(|group| group.fields == share.fields).unwrap_or_else(|| {
            groups.push(Group { fields: share.fields, layers: Vec::new(), width: 0 });
            groups.len() - 1
        });
        places.push(Some((group, groups[group].width)));
        groups[group].width += node.width;
        let has_bias = share.rest.is_empty() && share.start == Start::Bias;
        groups[group].layers.push(TabulatedLayer {
            layer: share.layer,
            columns: share.columns,
            outputs: node.width,
            has_bias,
        });
    }

    let mut places = places.into_iter();
    rewrite(graph, |new, node, op| {
        let place = places.next().flatten();
        let (Some((group, start_column)), Some(share)) = (place, model.share(new, &op, &fields)) else {
            return new.add(op, node.width, &node.name);
        };
        let Group { fields, layers, width } = &groups[group];
        let sums = Op::Tabulated { fields: fields.clone(), layers: layers.clone() };
        let sums = new.add(sums, *width, "product tables");
        let sum = match *width == node.width {
            true => sums,
            false => new.add(Op::Slice { input: sums, start: start_column }, node.width, "slice"),
        };
        let op = match (share.rest.as_slice(), share.start) {
            ([], Start::Zero | Start::Bias) => return sum,
            ([], Start::Value(left)) => {
                let (how, spread, activation) = (Combine::Add, Spread::Cycle, Activation::Identity);
                Op::Combine { how, left, right: sum, spread, activation }
            }
            (rest, start) => {
                let input = match rest {
                    [(single, _)] => *single,
                    _ => {
                        let parts: Vec<Value> = rest.iter().map(|(value, _)| *value).collect();
                        let width = parts.iter().map(|part| new.width(*part)).sum();
                        new.add(Op::Concat(parts), width, "concat")
                    }
                };
                let columns = rest.iter().map(|(_, columns)| columns.clone()).collect();
                let (matrix, addend) = (Matrix::Layer(share.layer, columns), Some(sum));
                Op::Product { input, matrix, start, addend, activation: Activation::Identity, groups: 1 }
            }
        };
        new.add(op, node.width, &node.name)
    })
}

/// A product that is the share of the request in a layer, divided.
struct Share {
    layer: Layer,
    start: Start,
    /// The fields that have product tables, and the columns that each meets.
    fields: Vec<Field>,
    columns: Vec<Columns>,
    /// The other inputs.
    rest: Vec<(Value, Columns)>,
}

impl Tables<'_> {
    /// The product that `op` is, if it reads any of `fields`.
    fn share(&self, graph: &Graph, op: &Op, fields: &[Field]) -> Option<Share> {
        let (layer, start, parts) = product(graph, op)?;
        let mut share = Share { layer, start, fields: Vec::new(), columns: Vec::new(), rest: Vec::new() };
        for (value, columns) in parts {
            match self.field(graph, value).filter(|field| fields.contains(field)) {
                Some(field) => {
                    share.fields.push(field);
                    share.columns.push(columns);
                }
                None => share.rest.push((value, columns)),
            }
        }
        (!share.fields.is_empty()).then_some(share)
    }

    /// The field of a value that is the embedding of a single id of the request.
    fn field(&self, graph: &Graph, value: Value) -> Option<Field> {
        let (slot, table) = match graph.op(value) {
            Op::Feature(slot) => (*slot, self.tables[*slot]?),
            Op::Embedding { slot, table } => (*slot, *table),
            _ => return None,
        };
        let is_single = matches!(self.description.features[slot].kind, FeatureKind::Id { length: 1, .. });
        (is_single && self.rates[slot] == Rate::Request).then_some(Field { slot, table })
    }

    /// The rows that the values of a field can find.
    fn rows(&self, field: Field) -> usize {
        self.store.tensor(self.tables[field.slot].unwrap_or(field.table)).shape[0]
    }

    /// The fields whose tables fit into `budget` bytes.
    fn choose(&self, graph: &Graph, budget: usize) -> Vec<Field> {
        let mut candidates: Vec<Candidate> = Vec::new();
        for node in &graph.nodes {
            for (value, Columns { length: depth, .. }) in
                product(graph, &node.op).into_iter().flat_map(|(.., parts)| parts)
            {
                let Some(field) = self.field(graph, value).filter(|_| depth >= LEAST_DEPTH) else { continue };
                match candidates.iter_mut().find(|candidate| candidate.field == field) {
                    Some(candidate) => candidate.outputs += node.width,
                    None => candidates.push(Candidate { field, rows: self.rows(field), depth, outputs: node.width }),
                }
            }
        }
        candidates.sort_by(|a, b| (a.rows * b.depth).cmp(&(b.rows * a.depth)));
        // The row of biases of a group is not counted: the panels that it takes the place of had it too.
        let mut left = budget;
        let fits = |candidate: &Candidate| {
            let bytes = candidate.rows.saturating_mul(candidate.outputs).saturating_mul(size_of::<f32>());
            let fits = bytes <= left;
            left -= if fits { bytes } else { 0 };
            fits
        };
        candidates.into_iter().filter(fits).map(|candidate| candidate.field).collect()
    }
}

/// A stored layer over rows: its inputs with the columns that each meets.
type Product = (Layer, Start, Vec<(Value, Columns)>);

/// The product that `op` is, as `split` makes them.
fn product(graph: &Graph, op: &Op) -> Option<Product> {
    let Op::Product { input, matrix: Matrix::Layer(layer, columns), start, addend: None, activation, groups: 1 } = op
    else {
        return None;
    };
    if *activation != Activation::Identity || graph.sequence(*input).is_some() {
        return None;
    }
    let values = match graph.op(*input) {
        Op::Concat(parts) => parts.clone(),
        _ => vec![*input],
    };
    let mut at = 0;
    let mut parts = Vec::with_capacity(values.len());
    for value in values {
        let length = graph.width(value);
        parts.push((value, cut(columns, at, length)?));
        at += length;
    }
    Some((*layer, *start, parts))
}

/// The columns that inputs `start..start + length` meet, if those are of one run.
fn cut(columns: &[Columns], start: usize, length: usize) -> Option<Columns> {
    let mut first = 0;
    for run in columns {
        if start < first + run.length {
            let at = start - first;
            let terms = run.terms.iter().map(|(start, is_negative)| (start + at, *is_negative)).collect();
            return (at + length <= run.length).then_some(Columns { length, terms });
        }
        first += run.length;
    }
    None
}
