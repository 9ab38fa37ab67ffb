//! How far logits are from each other.

/// The natural logarithm of each token's probability.
pub fn log_softmax(logits: &[f32]) -> impl Fn(u32) -> f32 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - max).exp()).sum();
    let norm = max + sum.ln();
    move |token| (f64::from(logits[token as usize]) - norm) as f32
}

/// The likeliest token, the lowest of equals.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// `|actual - expect| / |expect|` in the Euclidean norm.
pub fn relative_l2(actual: &[f32], expect: &[f32]) -> f64 {
    assert_eq!(actual.len(), expect.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let error = square(&mut actual.iter().zip(expect).map(|(a, e)| f64::from(*a) - f64::from(*e)));
    (error / square(&mut expect.iter().map(|value| f64::from(*value)))).sqrt()
}

/// The largest `|actual - expect|`.
pub fn largest_error(actual: &[f32], expect: &[f32]) -> f32 {
    assert_eq!(actual.len(), expect.len());
    actual.iter().zip(expect).map(|(a, e)| (a - e).abs()).fold(0.0, f32::max)
}

/// Kullback-Leibler divergence in nats of `q` from `p`, both given as logits of the whole vocabulary.
pub fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let (log_p, log_q) = (log_softmax(p), log_softmax(q));
    (0..p.len() as u32)
        .map(|token| {
            let log_p = f64::from(log_p(token));
            log_p.exp() * (log_p - f64::from(log_q(token)))
        })
        .sum()
}
