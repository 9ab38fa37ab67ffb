//! The tokens that several continuations of one prompt have, as a trie: so that what they share is computed and scored
//! once.
//!
//! A node is a prefix of continuations, an edge the token that follows it. The logits after a node score all its edges,
//! so each node with edges needs one row. A [`Path`] is a sequence of the engine that computes the nodes of one
//! continuation and the rows that no path before it has.

use std::{collections::HashMap, ops::Range};

use sglhost_core::TokenId;

/// Number of an edge; those of several tries of one call follow each other.
pub(crate) type Edge = usize;

/// A row of logits and the edges that it scores.
pub(crate) type ScoredRow = Vec<(TokenId, Edge)>;

/// What one sequence computes of a trie.
#[derive(Debug)]
pub(crate) struct Path {
    /// Tokens after the prompt, as far as they are computed.
    pub(crate) tokens: Vec<TokenId>,
    /// The first row follows so many of them; each further one follows one more, to the last.
    pub(crate) first_row: usize,
    pub(crate) rows: Vec<ScoredRow>,
}

/// The continuations of one prompt.
#[derive(Debug)]
pub(crate) struct Trie {
    /// The edges of each continuation, in order.
    pub(crate) edges: Vec<Vec<Edge>>,
    pub(crate) paths: Vec<Path>,
    /// All its edges.
    pub(crate) range: Range<Edge>,
}

impl Trie {
    /// The trie of `continuations`; edges are numbered from `first` on.
    pub(crate) fn new(continuations: &[&[TokenId]], first: Edge) -> Self {
        // Node 0 is the prompt; an edge leads to the node of its own number plus one.
        let mut children: Vec<ScoredRow> = vec![Vec::new()];
        let mut known: HashMap<(usize, TokenId), usize> = HashMap::new();
        let mut edges = Vec::with_capacity(continuations.len());
        for tokens in continuations {
            let mut node = 0;
            let walk = tokens.iter().map(|&token| {
                let edge = *known.entry((node, token)).or_insert_with(|| {
                    let edge = children.len() - 1;
                    children.push(Vec::new());
                    children[node].push((token, first + edge));
                    edge
                });
                node = edge + 1;
                first + edge
            });
            edges.push(walk.collect::<Vec<Edge>>());
        }
        let mut has_row = vec![false; children.len()];
        let mut paths = Vec::new();
        for (tokens, edges) in continuations.iter().zip(&edges) {
            let nodes: Vec<usize> = edges.iter().map(|edge| edge - first + 1).collect();
            // The node before each token.
            let before: Vec<usize> = std::iter::once(0).chain(nodes).take(tokens.len()).collect();
            let Some(first_row) = before.iter().position(|&node| !has_row[node]) else { continue };
            before[first_row..].iter().for_each(|&node| has_row[node] = true);
            paths.push(Path {
                tokens: tokens[..tokens.len() - 1].to_vec(),
                first_row,
                rows: before[first_row..].iter().map(|&node| children[node].clone()).collect(),
            });
        }
        Self { edges, paths, range: first..first + children.len() - 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores every edge by its path from the prompt, as the engine would, and each continuation from those.
    fn scores(continuations: &[&[TokenId]]) -> (Vec<Vec<Vec<TokenId>>>, usize, usize) {
        let trie = Trie::new(continuations, 10);
        let mut values: HashMap<Edge, Vec<TokenId>> = HashMap::new();
        let mut rows = 0;
        for path in &trie.paths {
            assert_eq!(path.first_row + path.rows.len(), path.tokens.len() + 1, "rows go to the path's end");
            for (index, row) in path.rows.iter().enumerate() {
                rows += 1;
                for &(token, edge) in row {
                    assert!(trie.range.contains(&edge));
                    let scored = [&path.tokens[..path.first_row + index], &[token]].concat();
                    assert!(values.insert(edge, scored).is_none(), "an edge is scored once");
                }
            }
        }
        let whole = trie.edges.iter().map(|edges| edges.iter().map(|edge| values[edge].clone()).collect()).collect();
        (whole, rows, trie.paths.len())
    }

    #[test]
    fn each_token_is_scored_after_those_before_it_and_each_row_computed_once() {
        type Case = (&'static [&'static [TokenId]], usize, usize);
        let cases: [Case; 7] = [
            (&[&[1], &[2], &[3]], 1, 1),
            (&[&[1, 2], &[1, 3]], 2, 1),
            (&[&[1], &[1, 2]], 2, 2),
            (&[&[1, 2], &[1]], 2, 1),
            (&[&[1, 2, 3], &[1, 4, 5], &[1, 4, 6], &[7]], 4, 2),
            (&[&[1, 2], &[1, 2]], 2, 1),
            (&[&[5, 6, 7]], 3, 1),
        ];
        for (continuations, rows, paths) in cases {
            let (scored, counted, sequences) = scores(continuations);
            for (tokens, scored) in continuations.iter().zip(scored) {
                let prefixes: Vec<Vec<TokenId>> = (1..=tokens.len()).map(|end| tokens[..end].to_vec()).collect();
                assert_eq!(scored, prefixes, "{continuations:?}");
            }
            assert_eq!((counted, sequences), (rows, paths), "{continuations:?}");
        }
    }
}
