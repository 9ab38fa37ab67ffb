//! All tokens of a vocabulary as a trie over their bytes, laid out in the order of a depth-first walk.

use sglhost_core::TokenId;

use crate::Tokenizer;

/// One byte of one or more tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    /// The byte that leads here.
    pub byte: u8,
    /// How many bytes lead here; at least 1.
    pub depth: u16,
    /// Whether more than one token ends here.
    pub several: bool,
    /// Index of the next node that is not below this one.
    pub skip: u32,
    /// The first token that ends here; [`NO_TOKEN`] if there is none.
    pub token: TokenId,
    /// Where this node's tokens begin in the list of tokens; they end where the next node's begin.
    tokens: u32,
}

/// Stands for no token, and is beyond any vocabulary.
pub(crate) const NO_TOKEN: TokenId = 1 << 24;

/// The trie: no root, the first node is the first byte of the first token.
#[derive(Debug)]
pub(crate) struct TokenTrie {
    nodes: Vec<Node>,
    tokens: Vec<TokenId>,
    /// Which bytes are tokens of their own. Rarely all of them: a vocabulary lacks those that its training text lacked.
    spells: [bool; 256],
    /// Bytes of the longest token.
    depth: usize,
}

impl TokenTrie {
    /// Builds the trie of all tokens that stand for text. O(total bytes × log tokens).
    pub(crate) fn new(tokenizer: &Tokenizer) -> Self {
        let mut entries: Vec<(&[u8], TokenId)> = (0..tokenizer.vocabulary() as TokenId)
            .filter(|&id| !tokenizer.is_special(id))
            .map(|id| (tokenizer.token_bytes(id), id))
            .filter(|(bytes, _)| !bytes.is_empty() && bytes.len() < usize::from(u16::MAX))
            .collect();
        entries.sort_unstable();
        let mut trie =
            Self { nodes: Vec::new(), tokens: Vec::with_capacity(entries.len()), spells: [false; 256], depth: 0 };
        let mut path: Vec<usize> = Vec::new();
        let mut last: &[u8] = &[];
        for (bytes, id) in entries {
            let shared = bytes.iter().zip(last).take_while(|(a, b)| a == b).count();
            trie.close(&path[shared.min(path.len())..]);
            path.truncate(shared);
            for (depth, &byte) in bytes.iter().enumerate().skip(shared) {
                path.push(trie.nodes.len());
                trie.nodes.push(Node {
                    byte,
                    depth: depth as u16 + 1,
                    several: false,
                    skip: 0,
                    token: NO_TOKEN,
                    tokens: trie.tokens.len() as u32,
                });
            }
            let node = &mut trie.nodes[path[path.len() - 1]];
            node.several = node.token != NO_TOKEN;
            if !node.several {
                node.token = id;
            }
            trie.tokens.push(id);
            trie.depth = trie.depth.max(bytes.len());
            last = bytes;
        }
        trie.close(&path);
        for index in (0..trie.nodes.len()).filter(|&index| trie.nodes[index].depth == 1) {
            trie.spells[usize::from(trie.nodes[index].byte)] = !trie.tokens(index).is_empty();
        }
        trie
    }

    /// The subtrees of these nodes end here.
    fn close(&mut self, path: &[usize]) {
        let end = self.nodes.len() as u32;
        for &node in path {
            self.nodes[node].skip = end;
        }
    }

    /// Bytes of the longest token.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The node at `index`; none past the last.
    pub(crate) fn node(&self, index: usize) -> Option<&Node> {
        self.nodes.get(index)
    }

    /// Tokens that end at the node at `index`.
    pub(crate) fn tokens(&self, index: usize) -> &[TokenId] {
        let start = self.nodes[index].tokens as usize;
        let end = self.nodes.get(index + 1).map_or(self.tokens.len(), |next| next.tokens as usize);
        &self.tokens[start..end]
    }

    /// How much of `text` no token can share with what follows: the place of the first byte from which on `text` is the
    /// beginning of a longer token. `may_follow` tells which bytes may come next.
    pub(crate) fn settled(&self, text: &[u8], may_follow: impl Fn(u8) -> bool) -> usize {
        (0..text.len()).find(|&start| self.goes_on(&text[start..], &may_follow)).unwrap_or(text.len())
    }

    /// Whether some token begins with `bytes` and goes on with a byte that may follow.
    fn goes_on(&self, bytes: &[u8], may_follow: &impl Fn(u8) -> bool) -> bool {
        let (mut first, mut end) = (0, self.nodes.len());
        for &byte in bytes {
            let Some(index) = self.siblings(first, end).find(|&index| self.nodes[index].byte == byte) else {
                return false;
            };
            (first, end) = (index + 1, self.nodes[index].skip as usize);
        }
        self.siblings(first, end).any(|index| may_follow(self.nodes[index].byte))
    }

    /// The nodes of one depth between two places.
    fn siblings(&self, first: usize, end: usize) -> impl Iterator<Item = usize> + '_ {
        let next = move |&index: &usize| self.nodes.get(index).map(|node| node.skip as usize);
        std::iter::successors(Some(first), next).take_while(move |&index| index < end)
    }

    /// Which bytes are tokens of their own.
    pub(crate) fn spells(&self) -> &[bool; 256] {
        &self.spells
    }
}
