//! `polyscore score`: lines of requests in, lines of scores out.

use crate::requests::{parse, views};
use crate::{Failure, Open};
use clap::Args;
use polyscore::{Model, Scorer};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    open: Open,
    /// Requests, a line of JSON each; `-` reads standard input
    #[arg(default_value = "-")]
    requests: String,
    /// Tasks to compute, by name [default: all, or those that a line asks for]
    #[arg(long, value_delimiter = ',')]
    tasks: Option<Vec<String>>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let model = arguments.open.open()?;
    let tasks = match &arguments.tasks {
        None => None,
        Some(names) => Some(
            names
                .iter()
                .map(|name| {
                    model.task(name).ok_or_else(|| Failure(format!("--tasks: `{name}` is not a task of the model")))
                })
                .collect::<Result<Vec<u32>, Failure>>()?,
        ),
    };
    let input: Box<dyn BufRead> = match arguments.requests.as_str() {
        "-" => Box::new(std::io::stdin().lock()),
        path => Box::new(BufReader::new(File::open(path).map_err(|error| Failure(format!("{path}: {error}")))?)),
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut scorer = model.scorer()?;
    for (number, line) in input.lines().enumerate() {
        let line = line.map_err(|error| Failure(format!("line {}: {error}", number + 1)))?;
        if line.trim().is_empty() {
            continue;
        }
        match score(&model, &mut scorer, &line, tasks.as_deref()) {
            Ok(scores) => writeln!(out, "{scores}")?,
            Err(message) => {
                out.flush()?;
                return Err(Failure(format!("line {}: {message}", number + 1)));
            }
        }
    }
    out.flush()?;
    Ok(())
}

fn score(model: &Model, scorer: &mut Scorer, line: &str, tasks: Option<&[u32]>) -> Result<String, String> {
    let request = parse(model, line)?;
    let known = model.description().tasks.len() as u32;
    let asked: Vec<u32> = match (&request.tasks, tasks) {
        (Some(asked), _) => asked.clone(),
        (None, Some(asked)) => asked.to_vec(),
        (None, None) => (0..known).collect(),
    };
    let mut scores = vec![0.0; asked.len() * request.count];
    scorer
        .prepare(request.scenario, &views(&request.request))
        .and_then(|()| request.score(scorer, &views(&request.candidates), Some(&asked), &mut scores))
        .map_err(|fault| scorer.explain(fault).to_string())?;
    let mut by_task = Vec::with_capacity(asked.len());
    for (position, task) in asked.iter().enumerate() {
        let start = position * request.count;
        let name = &model.description().tasks[*task as usize].name;
        // Straight from f32, so that the shortest digits that read back as the same bits are printed.
        let values = serde_json::to_string(&scores[start..start + request.count]).map_err(|error| error.to_string())?;
        by_task.push(format!("\"{name}\":{values}"));
    }
    Ok(format!("{{\"scores\":{{{}}}}}", by_task.join(",")))
}
