//! The demo of tests/demo/README.md in Rust. usage: demo MODEL

use polyscore::{Column, Model, OpenOptions, Values};

struct Customer {
    scenario: &'static str,
    recency: f32,
    history_segment: &'static str,
    history: f32,
    mens: i64,
    womens: i64,
    zip_code: &'static str,
    newbie: i64,
}

const CUSTOMERS: [Customer; 3] = [
    Customer {
        scenario: "Web",
        recency: 2.0,
        history_segment: "2) $100 - $200",
        history: 150.0,
        mens: 1,
        womens: 0,
        zip_code: "Urban",
        newbie: 0,
    },
    Customer {
        scenario: "Phone",
        recency: 11.0,
        history_segment: "1) $0 - $100",
        history: 33.5,
        mens: 0,
        womens: 1,
        zip_code: "Rural",
        newbie: 1,
    },
    Customer {
        scenario: "Multichannel",
        recency: 5.0,
        history_segment: "7) $1,000 +",
        history: 1750.0,
        mens: 1,
        womens: 1,
        zip_code: "Surburban",
        newbie: 0,
    },
];

const EMAILS: [(&str, f64); 3] = [("No E-Mail", 0.0), ("Mens E-Mail", 0.10), ("Womens E-Mail", 0.10)];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: demo MODEL")?;
    let model = Model::open(path, &OpenOptions::default())?;
    let mut scorer = model.scorer()?;
    let slot = |name: &str| model.feature(name).ok_or(format!("the model has no feature {name}"));
    let tasks = ["visit", "conversion"].map(|name| model.task(name).unwrap_or(u32::MAX));
    let bytes: Vec<u8> = EMAILS.iter().flat_map(|(email, _)| email.bytes()).collect();
    let offsets = [0, 9, 20, 33];
    let text = Values::Text { bytes: &bytes, offsets: &offsets };
    let candidates = [Column { feature: slot("email")?, values: text, row_offsets: None }];

    for customer in &CUSTOMERS {
        let (recency, history) = ([customer.recency], [customer.history]);
        let (mens, womens, newbie) = ([customer.mens], [customer.womens], [customer.newbie]);
        let ends = |text: &str| [0, text.len() as i64];
        let (segment_ends, zip_ends) = (ends(customer.history_segment), ends(customer.zip_code));
        let (segment, zip) = (customer.history_segment.as_bytes(), customer.zip_code.as_bytes());
        let request = [
            ("recency", Values::F32(&recency)),
            ("history_segment", Values::Text { bytes: segment, offsets: &segment_ends }),
            ("history", Values::F32(&history)),
            ("mens", Values::I64(&mens)),
            ("womens", Values::I64(&womens)),
            ("zip_code", Values::Text { bytes: zip, offsets: &zip_ends }),
            ("newbie", Values::I64(&newbie)),
        ];
        let column = |(name, values): (&str, _)| Ok(Column { feature: slot(name)?, values, row_offsets: None });
        let request = request.into_iter().map(column).collect::<Result<Vec<_>, String>>()?;
        scorer.prepare(model.scenario(customer.scenario), &request)?;
        let mut scores = [0.0f32; 6];
        scorer.score(3, &candidates, Some(&tasks), &mut scores)?;

        let value = |e: usize| 100.0 * f64::from(scores[3 + e]) - EMAILS[e].1;
        let mut order = [0, 1, 2];
        order.sort_by(|a, b| value(*b).total_cmp(&value(*a)));
        for (rank, e) in order.into_iter().enumerate() {
            let (scenario, email) = (customer.scenario, EMAILS[e].0);
            let (visit, conversion) = (scores[e], scores[3 + e]);
            println!("{scenario}\t{}\t{email}\t{visit:.6}\t{conversion:.6}\t{:.4}", rank + 1, value(e));
        }
    }
    Ok(())
}
