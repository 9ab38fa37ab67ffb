//! Prompt programs: compile, pool, limit and run WebAssembly components against an engine.
