//! The rate of every value: how often it changes, and so when it is computed.
//!
//! `Model < Scenario < {Request, Item} < Pair`, and the join of request and item is pair. A value changes as often as the
//! join of what it reads; one pass in list order finds all rates.

use super::graph::{Graph, Op};
use crate::format;
use std::fmt;

/// When a value changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// With the model version.
    Model,
    /// With the scenario.
    Scenario,
    /// With the request: user and context.
    Request,
    /// With the ad alone.
    Item,
    /// With user and ad together.
    Pair,
}

impl Rate {
    /// Whether it changes with the candidate.
    pub fn is_of_candidates(self) -> bool {
        matches!(self, Rate::Item | Rate::Pair)
    }

    /// The slowest rate that changes whenever one of the two does.
    pub fn join(self, other: Rate) -> Rate {
        match (self, other) {
            (Rate::Request, Rate::Item) | (Rate::Item, Rate::Request) => Rate::Pair,
            (a, b) => {
                if (a as u8) < (b as u8) {
                    b
                } else {
                    a
                }
            }
        }
    }

    /// Whether the value is the same for all candidates of a request.
    pub fn is_request_constant(self) -> bool {
        matches!(self, Rate::Model | Rate::Scenario | Rate::Request)
    }
}

impl From<format::Rate> for Rate {
    fn from(rate: format::Rate) -> Rate {
        match rate {
            format::Rate::Request => Rate::Request,
            format::Rate::Item => Rate::Item,
            format::Rate::Pair => Rate::Pair,
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Rate::Model => "model",
            Rate::Scenario => "scenario",
            Rate::Request => "request",
            Rate::Item => "item",
            Rate::Pair => "pair",
        })
    }
}

/// Completes `rates`, the rates of the first values of `graph`, for all of them; `features` are the declared rates, by slot.
pub fn complete_rates(graph: &Graph, features: &[Rate], rates: &mut Vec<Rate>) {
    for node in &graph.nodes[rates.len()..] {
        let rate = match &node.op {
            Op::Feature(slot) | Op::Embedding { slot, .. } | Op::RowNumbers(slot) => features[*slot],
            Op::Sequence { .. } | Op::Tabulated { .. } => Rate::Request,
            Op::Scenario(_) | Op::ScenarioOneHot => Rate::Scenario,
            op => op.inputs().into_iter().map(|value| rates[value.0]).fold(Rate::Model, Rate::join),
        };
        rates.push(rate);
    }
}

#[cfg(test)]
mod tests {
    use super::Rate::{self, *};

    const ALL: [Rate; 5] = [Model, Scenario, Request, Item, Pair];

    #[test]
    fn the_join_is_a_lattice() {
        for a in ALL {
            assert_eq!(a.join(a), a);
            assert_eq!(Model.join(a), a);
            assert_eq!(Pair.join(a), Pair);
            for b in ALL {
                assert_eq!(a.join(b), b.join(a));
                for c in ALL {
                    assert_eq!(a.join(b).join(c), a.join(b.join(c)));
                }
            }
        }
        assert_eq!(Request.join(Item), Pair);
        assert_eq!(Scenario.join(Item), Item);
    }
}
