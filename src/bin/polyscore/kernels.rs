//! `polyscore kernels`: how fast the dense kernels are on this CPU, as shares of what its registers give at most.

use crate::Failure;
use clap::Args;
use polyscore::meter::{Kernels, Measured, Weight, measure};
use serde_json::json;
use std::io::Write;

#[derive(Args)]
pub struct Arguments {
    /// Kernel set [default: the best of the CPU]
    #[arg(long)]
    isa: Option<String>,
    /// Shapes of layers, inputs x outputs
    #[arg(long, value_delimiter = ',', default_value = "240x4120,512x256,640x4096,256x128,128x64", value_parser = shape)]
    shapes: Vec<[usize; 2]>,
    /// Numbers of rows
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64,96,128,500")]
    rows: Vec<usize>,
    /// Run on this core
    #[arg(long)]
    pin: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn shape(text: &str) -> Result<[usize; 2], String> {
    let sizes = text.split_once('x').and_then(|(inputs, outputs)| Some([inputs.parse().ok()?, outputs.parse().ok()?]));
    sizes
        .filter(|sizes| sizes.iter().all(|size| (1..=1 << 16).contains(size)))
        .ok_or_else(|| format!("`{text}` is no shape such as 240x4120, of 1 to 65536 inputs and outputs"))
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    crate::pin(arguments.pin)?;
    let kernels = Kernels::select(arguments.isa.as_deref()).map_err(|error| Failure(format!("--isa: {error}")))?;
    let mut out = std::io::stdout().lock();
    if !arguments.json {
        writeln!(
            out,
            "isa {}; speed in GOP/s, as a share of a loop in registers; weights read in GB/s",
            kernels.name()
        )?;
        writeln!(out, "{:24} {:>11} {:>6} {:>9} {:>7} {:>8}", "kernel", "layer", "rows", "speed", "share", "weights")?;
    }
    for weights in Weight::ALL {
        for shape in &arguments.shapes {
            let failure = |error| Failure(format!("{}x{}: {error}", shape[0], shape[1]));
            for measured in measure(kernels, weights, *shape, &arguments.rows).map_err(failure)? {
                let Measured { kernel, rows, speed, share, bandwidth } = measured;
                let layer = format!("{}x{}", shape[0], shape[1]);
                if arguments.json {
                    let line = json!({"isa": kernels.name(), "kernel": kernel, "layer": layer, "rows": rows,
                        "gops": speed, "share": share, "weights_gbs": bandwidth});
                    writeln!(out, "{line}")?;
                } else {
                    let share = 100.0 * share;
                    writeln!(out, "{kernel:24} {layer:>11} {rows:>6} {speed:>9.1} {share:>6.1}% {bandwidth:>8.1}")?;
                }
            }
        }
    }
    Ok(())
}
