//! Writes the code of a program beside its function.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Error, Expr, ExprLit, ItemFn, Lit, Result, parse_quote};

use crate::signature::{Argument, Signature};

pub(crate) fn program(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !attribute.is_empty() {
        return Err(Error::new_spanned(attribute, "`#[program]` takes nothing in parentheses"));
    }
    let mut function: ItemFn = syn::parse2(item)?;
    let Signature { description, arguments, fallible } = Signature::take(&mut function)?;
    // Rust's own macros of these names write nowhere on wasm32-unknown-unknown.
    function.block.stmts.insert(
        0,
        parse_quote! {
            #[allow(unused_imports)]
            use ::sglhost_guest::{eprint, eprintln, print, println};
        },
    );
    let name = &function.sig.ident;
    let written_name = name.to_string();
    let infos = arguments.iter().map(info);
    let takes = arguments.iter().map(take);
    let types = arguments.iter().map(|argument| &argument.ty);
    let values: Vec<_> = arguments.iter().map(|argument| &argument.ident).collect();
    let call = quote!(#name(state, #(#values),*));
    let call = if fallible { quote!(#call.map_err(::sglhost_guest::Error::from)?) } else { call };
    // Functions and types have names of their own, so the type may be called like the function.
    let ty = format_ident!("{}", name);
    let visibility = &function.vis;
    Ok(quote! {
        #[allow(unused_mut)]
        #function

        #[doc(hidden)]
        #[allow(non_camel_case_types)]
        #visibility enum #ty {}

        impl ::sglhost_guest::Program for #ty {
            const NAME: &'static str = #written_name;
            const DESCRIPTION: &'static str = #description;
            const ARGUMENTS: &'static [::sglhost_guest::__private::ArgumentInfo] = &[#(#infos),*];

            type Values = (#(#types,)*);

            #[allow(unused_mut, unused_variables)]
            fn take(
                mut arguments: ::sglhost_guest::__private::Arguments,
            ) -> ::sglhost_guest::Result<Self::Values> {
                ::core::result::Result::Ok((#(#takes,)*))
            }

            #[allow(clippy::unit_arg, clippy::useless_conversion)]
            fn call(
                state: &mut ::sglhost_guest::State,
                (#(#values,)*): Self::Values,
            ) -> ::sglhost_guest::Result<::std::string::String> {
                ::sglhost_guest::__private::to_json(&#call)
            }
        }

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;

            impl ::sglhost_guest::bindings::Guest for Component {
                fn run_program(
                    arguments: ::std::string::String,
                ) -> ::core::result::Result<::std::string::String, ::sglhost_guest::bindings::Error> {
                    ::sglhost_guest::__private::run_program::<#ty>(&arguments)
                }

                fn describe() -> ::std::string::String {
                    <#ty as ::sglhost_guest::Program>::describe()
                }
            }

            ::sglhost_guest::bindings::export!(
                Component with_types_in ::sglhost_guest::bindings
            );
        };
    })
}

/// The default as an expression of the argument's type: text may be given as a literal.
fn default(argument: &Argument) -> Option<TokenStream> {
    let (default, ty) = (argument.default.as_ref()?, &argument.ty);
    let text = matches!(default, Expr::Lit(ExprLit { lit: Lit::Str(_), .. }));
    let value = if text { quote!(#default.into()) } else { quote!(#default) };
    Some(quote!({
        fn default() -> #ty {
            #value
        }
        default
    }))
}

fn info(argument: &Argument) -> TokenStream {
    let Argument { ty, description, .. } = argument;
    let name = argument.name();
    let default = match default(argument) {
        Some(default) => {
            quote!(::core::option::Option::Some(|| { ::sglhost_guest::__private::serde_json::json!((#default)()) }))
        }
        None => quote!(::core::option::Option::None),
    };
    quote! {
        ::sglhost_guest::__private::ArgumentInfo {
            name: #name,
            description: #description,
            schema: <#ty as ::sglhost_guest::Argument>::schema,
            required: <#ty as ::sglhost_guest::Argument>::REQUIRED,
            default: #default,
        }
    }
}

fn take(argument: &Argument) -> TokenStream {
    let ty = &argument.ty;
    let name = argument.name();
    let default = match default(argument) {
        Some(default) => quote!(::core::option::Option::Some(#default as fn() -> #ty)),
        None => quote!(::core::option::Option::None),
    };
    quote!(arguments.take(#name, #default)?)
}
