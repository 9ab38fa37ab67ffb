//! Components that are meant to do harm when they are loaded, and what is measured afterwards.

use std::{fs, iter};

use crate::guests;

/// The program of attacks, whose `describe` does `harm`.
///
/// # Panics
/// If that program does not build.
#[must_use]
pub fn describing(harm: &str) -> Vec<u8> {
    const WELL: &[u8] = b"describe=well...........";
    let mut component = guests::component("tests/attacks/guests", "attacks");
    let at = component.windows(WELL.len()).position(|window| window == WELL).expect("the name is in the component");
    let name = format!("describe={harm}");
    let name = name.bytes().chain(iter::repeat(b'.')).take(WELL.len());
    component.splice(at..at + WELL.len(), name);
    component
}

/// A component of one function that does nothing `times` times, in a way that takes time and memory to compile.
///
/// # Panics
/// If it would be longer than four gigabytes.
#[must_use]
pub fn slow_to_compile(times: usize) -> Vec<u8> {
    /// A section or a body: its length before it, in five bytes.
    fn sized(content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let part = |index: usize| u8::try_from(length >> (7 * index) & 0x7f).unwrap();
        let mut bytes: Vec<u8> = (0..4).map(|index| part(index) | 0x80).chain([part(4)]).collect();
        bytes.extend(content);
        bytes
    }
    // One local; `block, local.get 0, br_if 0, local.get 0, i32.const 1, i32.add, local.set 0, end`.
    let mut body = vec![1, 1, 0x7f];
    for _ in 0..times {
        body.extend([0x02, 0x40, 0x20, 0, 0x0d, 0, 0x20, 0, 0x41, 1, 0x6a, 0x21, 0, 0x0b]);
    }
    body.push(0x0b);
    let mut code = vec![1];
    code.extend(sized(&body));
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for (section, content) in [(1, vec![1, 0x60, 0, 0]), (3, vec![1, 0]), (10, code)] {
        module.push(section);
        module.extend(sized(&content));
    }
    let mut component = b"\0asm\x0d\0\x01\0\x01".to_vec();
    component.extend(sized(&module));
    component
}

/// A program whose `run-program` begins with `does`, in WebAssembly's text format. `module` goes into the core module
/// that has the program's code, `component` in front of that.
///
/// # Panics
/// If that is no component.
#[must_use]
pub fn program(component: &str, module: &str, does: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "sgl:program/types@0.1.0" (instance $types
                (type $record (record (field "code" string) (field "message" string) (field "retryable" bool)))
                (export "error" (type (eq $record)))))
            (alias export $types "error" (type $error))
            {component}
            (core module $program
                {module}
                (memory (export "memory") 1)
                ;; A description, and where it is; a result that is `null`, and the arguments from 1024 on.
                (data (i32.const 16) "{{\22name\22: \22bomb\22}}")
                (data (i32.const 64) "\10\00\00\00\10\00\00\00")
                (data (i32.const 80) "null")
                (data (i32.const 96) "\00\00\00\00\50\00\00\00\04\00\00\00")
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
                (func (export "describe") (result i32) (i32.const 64))
                (func (export "run-program") (param i32 i32) (result i32) {does} (i32.const 96)))
            (core instance $program (instantiate $program))
            (func (export "run-program") async (param "arguments" string) (result (result string (error $error)))
                (canon lift (core func $program "run-program") (memory (core memory $program "memory"))
                    (realloc (core func $program "realloc"))))
            (func (export "describe") (result string)
                (canon lift (core func $program "describe") (memory (core memory $program "memory")))))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// A program that grows a table until it is ended.
#[must_use]
pub fn table_that_grows() -> Vec<u8> {
    let grow = "(loop (drop (table.grow $table (ref.null func) (i32.const 4096))) (br 0))";
    program("", "(table $table 1 funcref)", grow)
}

/// Components that have too much for their instance to be made, and what is said of them when they are loaded.
#[must_use]
pub fn bombs() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let module = |holds: &str, times: usize| {
        let instances = "(core instance (instantiate $bomb))".repeat(times);
        program(&format!("(core module $bomb {holds}) {instances}"), "", "")
    };
    let composed = "this is not a WebAssembly component: it is composed of several components with code";
    vec![
        (
            "a large table",
            program("", "(table 100001 funcref)", ""),
            "the component declares a table of 100001 elements, and a run may have 100000 (table_elements_max); make the \
             program use less, or run the host with a higher table_elements_max",
        ),
        (
            "the largest table, in a module that nobody instantiates",
            module("(table 0xffffffff funcref)", 0),
            "the component declares a table of 4294967295 elements, and a run may have 100000 (table_elements_max)",
        ),
        (
            "a thousand tables",
            program("", &"(table 1 funcref)".repeat(1000), ""),
            "the component declares 1000 tables, and a program may have 8 (CORE_TABLES_MAX); link its modules into one",
        ),
        (
            "tables of nine instances",
            module("(table 1 funcref)", 9),
            "the component declares 9 tables, and a program may have 8 (CORE_TABLES_MAX)",
        ),
        (
            "tables of instances of a module by its other names",
            program(
                &format!(
                    "(core module $bomb (table 1 funcref)) (export $exported \"bomb\" (core module $bomb)) \
                     (alias outer 0 $exported (core module $aliased)) {}",
                    "(core instance (instantiate $aliased))".repeat(9)
                ),
                "",
                "",
            ),
            "the component declares 9 tables, and a program may have 8 (CORE_TABLES_MAX)",
        ),
        (
            "tables that are large together",
            program("", &"(table 30000 funcref)".repeat(8), ""),
            "the program's describe failed: limit-exceeded: the run needs 120000 table elements and may have 100000 \
             (table_elements_max); make the program use less, or run with a higher table_elements_max",
        ),
        (
            "a table that grows before the program begins",
            module(
                "(table 1 funcref) (func $grow (loop (drop (table.grow 0 (ref.null func) (i32.const 4096))) (br 0))) \
                    (start $grow)",
                1,
            ),
            "the program's describe failed: limit-exceeded: the run needs 102401 table elements and may have 100000",
        ),
        (
            "five thousand instances",
            module("", 5000),
            "the component declares 5001 instances of core modules, and a program may have 64 (CORE_INSTANCES_MAX); link \
             its modules into one",
        ),
        (
            "instances that each have a memory",
            module("(memory 1)", 60),
            "the component declares 61 memories, and a program may have 2 (CORE_MEMORIES_MAX); link its modules into one",
        ),
        (
            "the largest memory",
            module("(memory 65536)", 1),
            "the component declares a memory of 4294967296 bytes, and a run may have 33554432 (memory_max_bytes); make \
             the program use less, or run the host with a higher memory_max_bytes",
        ),
        ("instances that multiply", multiplying(Some(""), 20), composed),
        ("instances that multiply a memory", multiplying(Some("(memory 1)"), 20), composed),
    ]
}

/// A component of components, each of which instantiates the one before twice, `times` times. The first instantiates a
/// module that it is given, or has no code at all.
///
/// # Panics
/// If that is no component.
#[must_use]
pub fn multiplying(module: Option<&str>, times: usize) -> Vec<u8> {
    let (given, with, first) = match module {
        Some(_) => (
            r#"(import "m" (core module $m))"#,
            r#"(with "m" (core module $m))"#,
            "(core instance (instantiate $m)) (core instance (instantiate $m))",
        ),
        None => ("", "", ""),
    };
    let mut nested = format!("(component $c0 {given} {first})");
    for level in 1..times {
        let before = format!("(instance (instantiate $c{} {with}))", level - 1);
        nested = format!("(component $c{level} {given} {nested} {before} {before})");
    }
    let module = module.map(|holds| format!("(core module $m {holds})")).unwrap_or_default();
    program(&format!("{module} {nested} (instance (instantiate $c{} {with}))", times - 1), "", "")
}

/// Resident bytes of this process.
///
/// # Panics
/// Where there is no `/proc`.
#[must_use]
pub fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
