//! What a component declares, against what a place in the pool of instances has: read before it is compiled.
//!
//! wasmtime checks the same when it has compiled, in its own words; here the limit is named, and nothing was compiled
//! for it.

use sglhost_core::limits::{self, RunLimits};
use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ComponentTypeRef, Encoding,
    Instance, MemoryType, Parser, Payload,
};

use crate::error::RuntimeError;

/// Bytes of a memory's page where its module does not say.
const PAGE_BYTES_LOG2: u32 = 16;

/// Tells whether the component is one that may be compiled and instantiated within `limits`.
///
/// # Errors
/// Says what it has too much of, with the limit and the way out; or that it is malformed, or several with code.
pub(crate) fn check(bytes: &[u8], limits: &RunLimits) -> Result<(), RuntimeError> {
    let mut open = Vec::new();
    let mut declared = Declared::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::Version { encoding, .. } => {
                if encoding == Encoding::Module {
                    check_alone(open.len())?;
                    declared.modules.push(Module::default());
                }
                open.push(encoding);
            }
            Payload::End(_) => {
                open.pop();
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    declared.last().add_table(table.map_err(malformed)?.ty.initial, limits)?;
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    declared.last().add_memory(&memory.map_err(malformed)?, limits)?;
                }
            }
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    if let Instance::Instantiate { module_index, .. } = instance.map_err(malformed)? {
                        check_alone(open.len().saturating_sub(1))?;
                        declared.instantiate(module_index);
                    }
                }
            }
            // What gives a module another number in the component's own list.
            Payload::ComponentImportSection(imports) if open.len() == 1 => {
                for import in imports {
                    if let ComponentTypeRef::Module(_) = import.map_err(malformed)?.ty {
                        declared.modules.push(Module::default());
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) if open.len() == 1 => {
                for alias in aliases {
                    match alias.map_err(malformed)? {
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => {
                            declared.modules.push(Module::default());
                        }
                        ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, index, .. } => {
                            declared.modules.push(declared.module(index));
                        }
                        _ => {}
                    }
                }
            }
            Payload::ComponentExportSection(exports) if open.len() == 1 => {
                for export in exports {
                    let export = export.map_err(malformed)?;
                    if export.kind == ComponentExternalKind::Module {
                        declared.modules.push(declared.module(export.index));
                    }
                }
            }
            _ => {}
        }
    }
    declared.check()
}

fn malformed(error: BinaryReaderError) -> RuntimeError {
    RuntimeError::Compile(error.to_string())
}

/// A component that holds others with code could call from one into the other, each call a stack of its own, taken from
/// those of other runs; and one that is instantiated often multiplies what it instantiates. Toolchains make none;
/// components without code, which they use to shape exports, are fine.
fn check_alone(components_around_code: usize) -> Result<(), RuntimeError> {
    if components_around_code > 1 {
        let reason = "it is composed of several components with code; programs are one component";
        return Err(RuntimeError::NotAComponent(reason.to_owned()));
    }
    Ok(())
}

/// What each instance of a module brings.
#[derive(Clone, Copy, Debug, Default)]
struct Module {
    memories: u64,
    tables: u64,
}

impl Module {
    fn add_table(&mut self, elements: u64, limits: &RunLimits) -> Result<(), RuntimeError> {
        self.tables += 1;
        let max = limits.table_elements_max;
        if elements > max as u64 {
            return Err(RuntimeError::DeclaresTooMuch(format!(
                "a table of {elements} elements, and a run may have {max} (table_elements_max); make the program use \
                 less, or run the host with a higher table_elements_max"
            )));
        }
        Ok(())
    }

    fn add_memory(&mut self, memory: &MemoryType, limits: &RunLimits) -> Result<(), RuntimeError> {
        self.memories += 1;
        let page_bytes = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(PAGE_BYTES_LOG2)).unwrap_or(u64::MAX);
        let bytes = memory.initial.saturating_mul(page_bytes);
        let max = limits.memory_max_bytes;
        if bytes > max as u64 {
            return Err(RuntimeError::DeclaresTooMuch(format!(
                "a memory of {bytes} bytes, and a run may have {max} (memory_max_bytes); make the program use less, or \
                 run the host with a higher memory_max_bytes"
            )));
        }
        Ok(())
    }
}

/// A component's modules, by their numbers, and what its instances of them come to.
#[derive(Debug, Default)]
struct Declared {
    modules: Vec<Module>,
    instances: u64,
    memories: u64,
    tables: u64,
}

impl Declared {
    /// The module that is being read.
    fn last(&mut self) -> &mut Module {
        if self.modules.is_empty() {
            self.modules.push(Module::default());
        }
        let last = self.modules.len() - 1;
        &mut self.modules[last]
    }

    /// A module by its number. One that is not there is for the compiler to refuse.
    fn module(&self, index: u32) -> Module {
        self.modules.get(index as usize).copied().unwrap_or_default()
    }

    fn instantiate(&mut self, index: u32) {
        let module = self.module(index);
        self.instances += 1;
        self.memories = self.memories.saturating_add(module.memories);
        self.tables = self.tables.saturating_add(module.tables);
    }

    fn check(&self) -> Result<(), RuntimeError> {
        let counts = [
            (self.instances, "instances of core modules", limits::CORE_INSTANCES_MAX, "CORE_INSTANCES_MAX"),
            (self.memories, "memories", limits::CORE_MEMORIES_MAX, "CORE_MEMORIES_MAX"),
            (self.tables, "tables", limits::CORE_TABLES_MAX, "CORE_TABLES_MAX"),
        ];
        for (count, what, max, name) in counts {
            if count > u64::from(max) {
                return Err(RuntimeError::DeclaresTooMuch(format!(
                    "{count} {what}, and a program may have {max} ({name}); link its modules into one"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    const CORE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn inspect(bytes: &[u8]) -> Result<(), RuntimeError> {
        check(bytes, &RunLimits::default())
    }

    /// `outer` with a section more.
    fn with(outer: &[u8], section: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = outer.to_vec();
        bytes.extend([section, u8::try_from(content.len()).unwrap()]);
        bytes.extend(content);
        bytes
    }

    #[test]
    fn components_within_components_hold_no_code() {
        // Section 4 of a component is a component, section 1 a core module.
        let nested = |inner: &[u8], section: u8| with(COMPONENT, section, inner);
        assert!(inspect(&nested(CORE, 1)).is_ok());
        assert!(inspect(&nested(COMPONENT, 4)).is_ok());
        let error = inspect(&nested(&nested(CORE, 1), 4)).unwrap_err();
        assert!(error.to_string().contains("composed of several components"), "{error}");
    }

    #[test]
    fn what_instances_hold_is_summed() {
        // Section 4 of a module is its tables: two of one element, of functions.
        let module = with(CORE, 4, &[2, 0x70, 0, 1, 0x70, 0, 1]);
        let component = with(COMPONENT, 1, &module);
        // Section 2 of a component is core instances: of module 0, with nothing for it.
        let instances = |count: u8| {
            let one: &[u8] = &[0, 0, 0];
            with(&component, 2, &[&[count][..], &one.repeat(usize::from(count))].concat())
        };
        assert!(inspect(&instances(4)).is_ok());
        let error = inspect(&instances(5)).unwrap_err();
        assert!(
            error.to_string().starts_with("the component declares 10 tables, and a program may have 8 "),
            "{error}"
        );
        // A module that nobody instantiates counts for nothing.
        assert!(inspect(&(0..5).fold(COMPONENT.to_vec(), |bytes, _| with(&bytes, 1, &module))).is_ok());
    }
}
