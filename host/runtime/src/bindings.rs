//! Host bindings of the contract in `wit/`, generated.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "generated code; the documentation is in the WIT"
)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "program",
    imports: {
        "sgl:program/lm.[method]call.text": store | trappable,
        default: trappable,
    },
    exports: { default: async },
    require_store_data_send: true,
    with: {
        "sgl:program/lm.constraint": crate::interface::lm::ConstraintHandle,
        "sgl:program/lm.options": crate::interface::lm::OptionsHandle,
        "sgl:program/lm.outcome": crate::interface::lm::OutcomeHandle,
        "sgl:program/lm.call": crate::interface::lm::CallHandle,
        "sgl:program/lm.image": crate::interface::lm::ImageHandle,
        "sgl:program/lm.context": crate::interface::lm::ContextHandle,
    },
});
