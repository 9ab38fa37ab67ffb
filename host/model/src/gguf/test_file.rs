//! GGUF files built in memory for tests: right ones, and wrong ones on purpose.

/// Entries and tensors in the order they are added.
pub(crate) struct TestFile {
    entries: Vec<u8>,
    entry_count: u64,
    directory: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
}

impl TestFile {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), entry_count: 0, directory: Vec::new(), tensor_count: 0, data: Vec::new() }
    }

    /// An entry of any type with its payload as it is.
    pub(crate) fn value(mut self, key: &str, kind: u32, payload: &[u8]) -> Self {
        push_string(&mut self.entries, key);
        self.entries.extend(kind.to_le_bytes());
        self.entries.extend(payload);
        self.entry_count += 1;
        self
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.value(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Self {
        self.value(key, 6, &value.to_le_bytes())
    }

    pub(crate) fn string(self, key: &str, value: &str) -> Self {
        let mut payload = Vec::new();
        push_string(&mut payload, value);
        self.value(key, 8, &payload)
    }

    /// An array that claims `count` strings and holds `strings`.
    pub(crate) fn string_array(self, key: &str, count: u64, strings: &[&str]) -> Self {
        let mut payload = Vec::new();
        payload.extend(8u32.to_le_bytes());
        payload.extend(count.to_le_bytes());
        for string in strings {
            push_string(&mut payload, string);
        }
        self.value(key, 9, &payload)
    }

    /// A tensor of zeros: `dimensions` innermost first, `bytes` of data whatever they ask for.
    pub(crate) fn tensor(mut self, name: &str, dimensions: &[u64], kind: u32, bytes: usize) -> Self {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        let offset = self.data.len() as u64;
        self.data.resize(self.data.len() + bytes, 0);
        self.tensor_at(name, dimensions, kind, offset)
    }

    /// A tensor's entry without data.
    pub(crate) fn tensor_at(mut self, name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Self {
        push_string(&mut self.directory, name);
        self.directory.extend((dimensions.len() as u32).to_le_bytes());
        for length in dimensions {
            self.directory.extend(length.to_le_bytes());
        }
        self.directory.extend(kind.to_le_bytes());
        self.directory.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(self.tensor_count.to_le_bytes());
        file.extend(self.entry_count.to_le_bytes());
        file.extend(self.entries);
        file.extend(self.directory);
        if !self.data.is_empty() {
            file.resize(file.len().next_multiple_of(32), 0);
            file.extend(self.data);
        }
        file
    }
}

fn push_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
