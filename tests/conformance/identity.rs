//! Logits are the same bits whatever else is in the batch, chunked or whole, cached or not, wherever the slots lie.

use crate::{
    compute,
    golden::smollm2,
    model::{self, Model, Part},
};

/// The longest prompt's length here; keeps the test short.
const TOKENS: usize = 100;

fn tokens(name: &str) -> &'static [u32] {
    let case = smollm2().cases.iter().find(|case| case.name == name).unwrap();
    &case.ids[..case.ids.len().min(TOKENS)]
}

/// Logits after each token, computed in passes of the given sizes (the last one as often as needed) over `slots`.
fn in_chunks(model: &mut Model, tokens: &[u32], slots: &[u32], sizes: &[usize]) -> Vec<f32> {
    let (mut logits, mut start) = (Vec::new(), 0);
    let mut sizes = sizes.iter().chain(std::iter::repeat(sizes.last().unwrap()));
    while start < tokens.len() {
        let end = tokens.len().min(start + sizes.next().unwrap());
        logits.extend(model.forward(&[Part { tokens: &tokens[start..end], slots: &slots[..end] }]));
        start = end;
    }
    logits
}

fn assert_same_bits(what: &str, actual: &[f32], expect: &[f32]) {
    assert_eq!(actual.len(), expect.len(), "{what}");
    let difference = actual.iter().zip(expect).position(|(a, e)| a.to_bits() != e.to_bits());
    assert_eq!(difference, None, "{what}: the first different logit");
}

fn check(mut model: Model) {
    let vocabulary = model.vocabulary();
    let prompt = tokens("austen");
    let slots: Vec<u32> = (0..prompt.len() as u32).collect();
    let whole = in_chunks(&mut model, prompt, &slots, &[prompt.len()]);

    for sizes in [&[64][..], &[1, 7, 32, 3], &[17], &[1]] {
        let chunked = in_chunks(&mut model, prompt, &slots, sizes);
        assert_same_bits(&format!("in chunks of {sizes:?}"), &chunked, &whole);
    }

    // 389 has no factor in common with 1000: every slot once, in an order far from that of the tokens.
    let scattered: Vec<u32> = (0..prompt.len() as u32).map(|index| index * 389 % 1000).collect();
    assert_same_bits("over scattered slots", &in_chunks(&mut model, prompt, &scattered, &[48]), &whole);

    let last = &whole[whole.len() - vocabulary..];
    let before = prompt.len() - 1;
    in_chunks(&mut model, prompt, &slots, &[prompt.len()]);

    // The last token as a decode step among prefills and decodes of others.
    let others = ["alice", "rust_code", "capital"].map(tokens);
    let other_slots = [200..300, 400..500, 600..700].map(|range: std::ops::Range<u32>| range.collect::<Vec<_>>());
    in_chunks(&mut model, &others[1][..60], &other_slots[1], &[60]);
    let logits = model.forward(&[
        Part { tokens: others[0], slots: &other_slots[0][..others[0].len()] },
        Part { tokens: &others[1][60..61], slots: &other_slots[1][..61] },
        Part { tokens: &prompt[before..], slots: &slots },
        Part { tokens: others[2], slots: &other_slots[2][..others[2].len()] },
    ]);
    let row = others[0].len() + 1;
    assert_same_bits("among others", &logits[row * vocabulary..(row + 1) * vocabulary], last);

    // A second sequence on the first one's prefix, side by side with one that computes everything itself.
    let shared = 50;
    let forked: Vec<u32> = slots[..shared].iter().copied().chain(700..700 + (prompt.len() - shared) as u32).collect();
    let own: Vec<u32> = (800..800 + prompt.len() as u32).collect();
    let logits =
        model.forward(&[Part { tokens: &prompt[shared..], slots: &forked }, Part { tokens: prompt, slots: &own }]);
    let cached = (prompt.len() - shared) * vocabulary;
    assert_same_bits("on a cached prefix", &logits[..cached], &whole[shared * vocabulary..]);
    assert_same_bits("beside it", &logits[cached..], &whole);
}

#[test]
fn as_served() {
    let _turn = compute::turn();
    check(model::served());
}

#[test]
fn with_f32_activations() {
    let _turn = compute::turn();
    check(model::exact());
}
