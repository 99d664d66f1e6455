//! `polyscore pack`: a model with its dense layers as kernels read them, so that who opens it maps them.

use crate::{Failure, Open};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// As hosts will open the file: with other options they pack layers of their own
    #[command(flatten)]
    open: Open,
    /// The file to write, which may be there; it is replaced once the new one is complete and has scored its golden requests
    out: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let model = arguments.open.open()?;
    let mut bytes = [model.footprint().packed_bytes, 0];
    let layers = model.write_packed(&arguments.out, |file| {
        let complete = arguments.open.at(file).open()?;
        bytes[1] = complete.footprint().packed_bytes;
        Ok::<(), Failure>(())
    })?;
    let mut out = std::io::stdout().lock();
    Ok(writeln!(out, "{layers} layers packed: {} bytes of each process before, {} now", bytes[0], bytes[1])?)
}
