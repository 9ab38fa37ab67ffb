//! Which KV slots hold which tokens: slot pool, namespaces, prefix reuse, eviction. No KV bytes.
