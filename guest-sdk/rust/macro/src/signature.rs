//! Reads the function under `#[program]`: its description, arguments and kind of result.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, FnArg, Ident, ItemFn, Lit, Meta, Pat, Result, ReturnType, Type};

/// What a program's function looks like from outside.
pub(crate) struct Signature {
    pub(crate) description: String,
    pub(crate) arguments: Vec<Argument>,
    /// Whether it returns a `Result`; else its value is the result.
    pub(crate) fallible: bool,
}

/// One argument after the state.
pub(crate) struct Argument {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    pub(crate) description: String,
    pub(crate) default: Option<Expr>,
}

impl Signature {
    /// Reads `function` and takes out of it the attributes on arguments, which Rust does not know.
    pub(crate) fn take(function: &mut ItemFn) -> Result<Self> {
        let signature = &function.sig;
        if let Some(asyncness) = &signature.asyncness {
            return Err(Error::new(
                asyncness.span(),
                "a program is a plain fn: calls start at once and only reading a result waits, so forks overlap anyway",
            ));
        }
        if !signature.generics.params.is_empty() {
            return Err(Error::new(signature.generics.span(), "a program cannot be generic"));
        }
        let description = doc(&function.attrs);
        let fallible = returns_result(&signature.output);
        let span = signature.ident.span();
        let mut inputs = function.sig.inputs.iter_mut();
        let state = inputs.next().ok_or_else(|| no_state(span))?;
        take_state(state)?;
        let arguments = inputs.map(Argument::take).collect::<Result<_>>()?;
        Ok(Self { description, arguments, fallible })
    }
}

fn no_state(span: Span) -> Error {
    Error::new(span, "the first argument of a program is its state: `s: &mut State`")
}

/// Checks the first argument and makes its binding mutable, so that `s += ..` compiles: it borrows the binding.
fn take_state(argument: &mut FnArg) -> Result<()> {
    let span = argument.span();
    let FnArg::Typed(argument) = argument else { return Err(no_state(span)) };
    match (&mut *argument.pat, &*argument.ty) {
        (Pat::Ident(name), Type::Reference(reference)) if reference.mutability.is_some() => {
            name.mutability.get_or_insert_with(|| syn::Token![mut](span));
            Ok(())
        }
        _ => Err(no_state(span)),
    }
}

impl Argument {
    fn take(argument: &mut FnArg) -> Result<Self> {
        let span = argument.span();
        let FnArg::Typed(argument) = argument else {
            return Err(Error::new(span, "a program is a function, not a method"));
        };
        let Pat::Ident(name) = &*argument.pat else {
            return Err(Error::new(span, "an argument of a program needs a plain name"));
        };
        if matches!(&*argument.ty, Type::Reference(_)) {
            return Err(Error::new(span, "arguments of a program are owned values: take a `String`, not a `&str`"));
        }
        let attributes = std::mem::take(&mut argument.attrs);
        let mut default = None;
        for attribute in &attributes {
            if attribute.path().is_ident("arg") {
                attribute.parse_nested_meta(|meta| {
                    if meta.path.is_ident("default") {
                        default = Some(meta.value()?.parse()?);
                        Ok(())
                    } else {
                        Err(meta.error("an argument takes `#[arg(default = ..)]`"))
                    }
                })?;
            } else if !attribute.path().is_ident("doc") {
                argument.attrs.push(attribute.clone());
            }
        }
        Ok(Self { ident: name.ident.clone(), ty: (*argument.ty).clone(), description: doc(&attributes), default })
    }

    /// The name as a caller writes it.
    pub(crate) fn name(&self) -> String {
        let name = self.ident.to_string();
        name.strip_prefix("r#").unwrap_or(&name).to_owned()
    }
}

/// The text of doc comments, lines joined as Markdown would.
fn doc(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    let text: Vec<_> = attributes.iter().filter_map(line).map(|line| line.trim().to_owned()).collect();
    let paragraphs = text.split(String::is_empty).filter(|lines| !lines.is_empty()).map(|lines| lines.join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// By its name: `Result`, `anyhow::Result`, `io::Result`, all with their own parameters. A macro sees no types.
fn returns_result(output: &ReturnType) -> bool {
    let ReturnType::Type(_, ty) = output else { return false };
    match &**ty {
        Type::Path(path) => path.path.segments.last().is_some_and(|last| last.ident == "Result"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use syn::parse_quote;

    #[test]
    fn a_signature_is_read() {
        let mut function: ItemFn = parse_quote! {
            /// Answers
            /// a question.
            ///
            /// Quickly.
            fn answer(s: &mut State, /** What. */ question: String, #[arg(default = 3)] r#type: i64) -> Result<()> {}
        };
        let signature = Signature::take(&mut function).unwrap();
        assert_eq!(signature.description, "Answers a question.\n\nQuickly.");
        assert!(signature.fallible);
        let names: Vec<_> = signature.arguments.iter().map(Argument::name).collect();
        assert_eq!(names, ["question", "type"]);
        assert_eq!(signature.arguments[0].description, "What.");
        assert!(signature.arguments[1].default.is_some());
        let attributes_left = function.sig.inputs.iter().any(|input| match input {
            FnArg::Typed(input) => !input.attrs.is_empty(),
            FnArg::Receiver(_) => true,
        });
        assert!(!attributes_left);
    }

    #[test]
    fn what_cannot_be_a_program_is_refused() {
        let check = |mut function: ItemFn, expect: &str| {
            let error = Signature::take(&mut function).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(expect), "{error}");
        };
        check(
            parse_quote!(
                fn f() {}
            ),
            "the first argument",
        );
        check(
            parse_quote!(
                fn f(question: String) {}
            ),
            "the first argument",
        );
        check(
            parse_quote!(
                fn f(s: &State) {}
            ),
            "the first argument",
        );
        check(
            parse_quote!(
                fn f(&mut self) {}
            ),
            "the first argument",
        );
        check(
            parse_quote!(
                async fn f(s: &mut State) {}
            ),
            "plain fn",
        );
        check(
            parse_quote!(
                fn f<T>(s: &mut State, a: T) {}
            ),
            "generic",
        );
        check(
            parse_quote!(
                fn f(s: &mut State, (a, b): (i64, i64)) {}
            ),
            "plain name",
        );
        check(
            parse_quote!(
                fn f(s: &mut State, a: &str) {}
            ),
            "owned",
        );
        check(
            parse_quote!(
                fn f(s: &mut State, #[arg(choices = 1)] a: String) {}
            ),
            "default",
        );
    }
}
