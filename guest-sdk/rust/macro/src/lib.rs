//! The `#[program]` attribute of `sglhost-guest`; see [`macro@program`].

mod expand;
mod signature;

use proc_macro::TokenStream;

/// Makes a function a program: the component's exports that run and describe it.
///
/// - The first argument is `s: &mut State`. Inside, `s += ..` works as well as `s.append(..)`.
/// - The others are the program's arguments, by name: text, numbers, `bool`, `Option`, `Vec`, or any
///   `serde_json::Value`. A doc comment on one is its description; `#[arg(default = 3)]` makes it optional.
/// - The function's doc comment is the program's description.
/// - It returns nothing, a value that serde can write as JSON (the run's result), or a `Result` of either.
///
/// Inside, `println!` and its like write to the run's log on every target.
///
/// A component is one program, so a crate has one `#[program]`.
///
/// ```ignore
/// /// Answers a question.
/// #[program]
/// fn basic_qa(
///     s: &mut State,
///     /// What to ask.
///     question: String,
///     #[arg(default = 512)] max_tokens: u32,
/// ) {
///     s.user(question);
///     s.assistant(gen("answer").max_tokens(max_tokens));
/// }
/// ```
#[proc_macro_attribute]
pub fn program(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::program(attribute.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
