//! The targets on stable Rust, without libFuzzer: good inputs changed by a seeded mutator.
//!
//! Every input is the same in every run. The least numbers of accepted and of rejected inputs
//! stand beside each target: a run that only ever sees one of the two tests little.

use std::path::PathBuf;

use crate::seeds::{self, Random};
use crate::{Verdict, TARGETS};

/// Bytes at which readers change their minds: ends of ranges, heads of items.
const TELLING: [u8; 16] = [
    0x00, 0x01, 0x17, 0x18, 0x1b, 0x20, 0x40, 0x5f, 0x7f, 0x80, 0x9f, 0xa0, 0xc0, 0xd8, 0xf6, 0xff,
];
/// Longer inputs are left to libFuzzer.
const MAX_BYTES: usize = 20_000;

/// An input with a few changes: bytes set, cut out, doubled, or taken from another input.
fn changed(random: &mut Random, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut data = inputs[random.below(inputs.len())].clone();
    for _ in 0..random.below(4) {
        if data.is_empty() {
            break;
        }
        let place = random.below(data.len());
        let count = (1 + random.below(16)).min(data.len() - place);
        match random.below(8) {
            0 => data[place] ^= 1 << random.below(8),
            1 => data[place] = random.bytes(1)[0],
            2 => data[place] = TELLING[random.below(TELLING.len())],
            3 => drop(data.drain(place..place + count)),
            4 => {
                let part = data[place..place + count].to_vec();
                data.splice(place..place, part);
            }
            5 => {
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len().max(1)).min(other.len());
                let part = other[from..other.len().min(from + 64)].to_vec();
                data.splice(place..place + count, part);
            }
            6 => data.truncate(place),
            _ => {
                let noise = random.bytes(count);
                data.splice(place..place, noise);
            }
        }
    }
    data
}

/// How many of the changed inputs a target accepts and rejects.
fn run(target: &str, rounds: usize, least: (usize, usize)) {
    let (_, check) = TARGETS
        .iter()
        .find(|(name, _)| *name == target)
        .expect("a target");
    let mut inputs = seeds::of(target);
    inputs.retain(|input| input.len() <= MAX_BYTES);
    assert!(inputs.len() >= 5, "{target}: {} inputs", inputs.len());
    let mut random = Random::new(1);
    let (mut accepted, mut rejected) = (0, 0);
    for _ in 0..rounds {
        match check(&changed(&mut random, &inputs)) {
            Verdict::Accepted => accepted += 1,
            Verdict::Rejected => rejected += 1,
        }
    }
    println!("{target}: {accepted} accepted, {rejected} rejected");
    assert!(
        accepted >= least.0 && rejected >= least.1,
        "{target}: only {accepted} accepted, {rejected} rejected"
    );
}

macro_rules! targets {
    ($($name:ident: $rounds:literal rounds, $accepted:literal accepted, $rejected:literal rejected;)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name), $rounds, ($accepted, $rejected));
        })*

        #[test]
        fn every_target_is_run() {
            let run = [$(stringify!($name)),*];
            assert_eq!(run.to_vec(), TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        }
    };
}

targets! {
    car: 2_000 rounds, 100 accepted, 100 rejected;
    cbor: 2_000 rounds, 100 accepted, 100 rejected;
    entry: 2_000 rounds, 100 accepted, 100 rejected;
    fold: 150 rounds, 25 accepted, 25 rejected;
    frame: 1_000 rounds, 100 accepted, 100 rejected;
    labels: 2_000 rounds, 100 accepted, 100 rejected;
    lexicon: 2_000 rounds, 100 accepted, 100 rejected;
    mst: 1_000 rounds, 100 accepted, 100 rejected;
    repo: 500 rounds, 50 accepted, 50 rejected;
    text: 10_000 rounds, 500 accepted, 500 rejected;
}

/// Not a test: `make fuzz` calls it to give libFuzzer its seeds, below `FUZZ_SEEDS`.
#[test]
#[ignore = "writes files"]
fn write_seeds() {
    let folder = PathBuf::from(std::env::var("FUZZ_SEEDS").expect("FUZZ_SEEDS names a folder"));
    for (target, _) in TARGETS {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder).expect("a folder");
        let seeds = seeds::of(target);
        println!("{target}: {} seeds", seeds.len());
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:04}")), seed).expect("a seed");
        }
    }
}
