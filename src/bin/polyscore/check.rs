//! `polyscore check`: may this file serve on this machine?

use crate::{Failure, Open};
use clap::Args;
use std::io::Write;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    open: Open,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let model = arguments.open.open()?;
    let description = model.description();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "ok: container, description, {} features, {} tasks, {} scenarios, every tensor's type, shape and values",
        description.features.len(),
        description.tasks.len(),
        description.scenarios.len()
    )?;
    match model.golden() {
        Some(golden) => writeln!(
            out,
            "ok: {} golden requests, {} scores, largest difference {:.3e} (bound {:.0e}) with {}",
            golden.requests,
            golden.scores,
            golden.max_error,
            golden.bound,
            model.plan().isa()
        )?,
        None => writeln!(out, "note: the file has no golden requests, so nothing proves its scores")?,
    }
    Ok(())
}
