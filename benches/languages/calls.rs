//! Times of calls from Rust; see languages.py. usage: calls MODEL IDS REQUEST_FIELDS ITEM_FIELDS CANDIDATES SECONDS

use polyscore::{Column, Model, OpenOptions, Values};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, ids, request_fields, item_fields, candidates, seconds] = arguments.as_slice() else {
        return Err("usage: calls MODEL IDS REQUEST_FIELDS ITEM_FIELDS CANDIDATES SECONDS".into());
    };
    let (user, items, n): (usize, usize, usize) = (request_fields.parse()?, item_fields.parse()?, candidates.parse()?);
    let limit = Duration::from_secs_f64(seconds.parse()?);
    let bytes = std::fs::read(ids)?;
    let ids: Vec<i64> = bytes
        .chunks_exact(8)
        .map(|b| Ok(i64::from_le_bytes(b.try_into()?)))
        .collect::<Result<_, std::array::TryFromSliceError>>()?;
    let requests: Vec<&[i64]> = ids.chunks_exact(user + items * n).collect();

    let model = Model::open(model, &OpenOptions::default())?;
    let mut scorer = model.scorer()?;
    let slot = |name: String| model.feature(&name).ok_or(format!("the model has no feature {name}"));
    let user_slots = (0..user).map(|k| slot(format!("u{k}"))).collect::<Result<Vec<u32>, String>>()?;
    let item_slots = (0..items).map(|k| slot(format!("i{k}"))).collect::<Result<Vec<u32>, String>>()?;
    let (mut request, mut ads) = (Vec::with_capacity(user), Vec::with_capacity(items));
    let mut out = vec![0.0f32; model.description().tasks.len() * n];
    let column = |feature: &u32, values| Column { feature: *feature, values: Values::I64(values), row_offsets: None };

    let (begin, mut times) = (Instant::now(), Vec::new());
    for place in (0..requests.len()).cycle() {
        let start = Instant::now();
        let (of_user, of_items) = requests[place].split_at(user);
        request.clear();
        ads.clear();
        request.extend(user_slots.iter().zip(of_user.chunks_exact(1)).map(|(feature, values)| column(feature, values)));
        ads.extend(item_slots.iter().zip(of_items.chunks_exact(n)).map(|(feature, values)| column(feature, values)));
        scorer.prepare(None, &request)?;
        scorer.score(n, &ads, None, &mut out)?;
        times.push(start.elapsed().as_nanos());
        if begin.elapsed() > limit {
            break;
        }
    }
    println!("{}", out[0]);
    times.iter().for_each(|time| println!("{time}"));
    Ok(())
}
