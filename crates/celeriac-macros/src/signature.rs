//! The function as a whole: its parts, what makes it no task, and what it returns.

use proc_macro2::{Group, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, GenericArgument, PathArguments, Result, ReturnType, Safety, Signature, Type, Visibility,
};

use crate::params::{borrows, has_impl, is_arg, peeled};

/// A free function. Its body stays a token tree: the compiler reports mistakes in there better than we can.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    body: Group,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        if !starts_function(&input.fork()) {
            return Err(input.error("a task is made of a function: put `#[celeriac::task]` on a free `fn`"));
        }
        let sig = input.parse()?;
        match input.parse()? {
            TokenTree::Group(body) if input.is_empty() => Ok(Self { attrs, vis, sig, body }),
            other => Err(Error::new(other.span(), "a task needs a body: put `#[celeriac::task]` on a free `fn`")),
        }
    }
}

/// Whether only qualifiers stand before `fn`.
fn starts_function(ahead: ParseStream<'_>) -> bool {
    while let Ok(token) = ahead.parse::<TokenTree>() {
        match token {
            TokenTree::Ident(word) if word == "fn" => return true,
            TokenTree::Ident(word)
                if ["async", "const", "extern", "safe", "unsafe"].iter().any(|known| word == known) => {}
            // The name of an ABI.
            TokenTree::Literal(_) => {}
            _ => return false,
        }
    }
    false
}

impl ToTokens for Function {
    /// The function as it was, without our own `#[arg(..)]`.
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { attrs, vis, sig, body } = self;
        let mut sig = sig.clone();
        for input in &mut sig.inputs {
            if let FnArg::Typed(typed) = input {
                typed.attrs.retain(|attr| !is_arg(attr));
            }
        }
        tokens.extend(quote!(#(#attrs)* #vis #sig #body));
    }
}

impl Function {
    /// Refuses what no task can be, parameters and return type aside.
    pub(crate) fn check(&self, errors: &mut Vec<Error>) {
        let Signature { constness, safety, abi, generics, variadic, .. } = &self.sig;
        let mut refuse =
            |tokens: &dyn ToTokens, why: &str| errors.push(Error::new_spanned(tokens.to_token_stream(), why));
        if let Some(constness) = constness {
            refuse(constness, "a task cannot be `const`: it runs in a worker");
        }
        if !matches!(safety, Safety::Default) {
            refuse(safety, "a task must be safe to call with any arguments: take `unsafe` into the body");
        }
        if let Some(abi) = abi {
            refuse(abi, "a task cannot be `extern`: wrap the foreign function in a plain `fn`");
        }
        if let Some(variadic) = variadic {
            refuse(variadic, "a task's arguments are fixed: take a `Vec`");
        }
        if !generics.params.is_empty() {
            refuse(
                generics,
                "a task cannot be generic: it is registered under one name and decodes concrete types. Write one task per type, \
                 each calling the generic function",
            );
        } else if let Some(clause) = &generics.where_clause {
            refuse(clause, "a task takes no `where` clause: it has no type parameters to bound");
        }
    }
}

/// What a call to the function gives.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What the task's result is, the error aside.
    pub(crate) output: Type,
    /// The function returns a `Result`: the span at which its error must fit.
    pub(crate) fallible: Option<proc_macro2::Span>,
}

/// Reads the return type.
pub(crate) fn outcome(returns: &ReturnType) -> Result<Outcome> {
    let unit = || Type::Tuple(syn::parse_quote!(()));
    let whole = match returns {
        ReturnType::Default => return Ok(Outcome { output: unit(), fallible: None }),
        ReturnType::Type(_, ty) => &**ty,
    };
    if has_impl(whole.to_token_stream()) {
        let why =
            "a task returns a concrete type: its result is encoded by the worker and decoded by whoever waits for it";
        return Err(Error::new_spanned(whole, why));
    }
    if let Type::Never(_) = peeled(whole) {
        return Err(Error::new_spanned(whole, "a task must come to an end: return `()`"));
    }
    let result = match peeled(whole) {
        Type::Path(path) => {
            path.path.segments.last().filter(|last| last.ident == "Result" || last.ident == "TaskResult")
        }
        _ => None,
    };
    let outcome = match result {
        None => Outcome { output: whole.clone(), fallible: None },
        Some(last) => {
            let mut types = match &last.arguments {
                PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
                PathArguments::None | PathArguments::Parenthesized(_) => None,
            }
            .into_iter()
            .flatten()
            .filter_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            });
            // Without arguments it is an alias such as `fmt::Result`, whose output is `()`.
            let output = types.next().cloned().unwrap_or_else(unit);
            Outcome { output, fallible: Some(types.next().map_or_else(|| whole.span(), Spanned::span)) }
        }
    };
    if borrows(&outcome.output) {
        let why = "a task returns an owned type, such as `String` for `&str`: its result is encoded by the worker and decoded by \
                   whoever waits for it";
        return Err(Error::new_spanned(&outcome.output, why));
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;
    use crate::params::shown;

    fn read(returns: ReturnType) -> (String, bool) {
        let outcome = outcome(&returns).unwrap();
        (shown(&outcome.output), outcome.fallible.is_some())
    }

    #[test]
    fn the_output_is_what_a_success_gives() {
        assert_eq!(read(parse_quote!()), ("()".into(), false));
        assert_eq!(read(parse_quote!(-> Vec<u8>)), ("Vec<u8>".into(), false));
        assert_eq!(read(parse_quote!(-> Result<Vec<u8>, E>)), ("Vec<u8>".into(), true));
        assert_eq!(read(parse_quote!(-> celeriac::TaskResult<u64>)), ("u64".into(), true));
        assert_eq!(read(parse_quote!(-> std::fmt::Result)), ("()".into(), true));
        assert_eq!(read(parse_quote!(-> Option<Result<u8, u8>>)), ("Option<Result<u8, u8>>".into(), false));
    }

    #[test]
    fn what_cannot_be_a_result_is_refused() {
        let refusal = |returns: ReturnType| outcome(&returns).unwrap_err().to_string();
        assert!(refusal(parse_quote!(-> impl Iterator<Item = u8>)).starts_with("a task returns a concrete type"));
        assert!(refusal(parse_quote!(-> Result<impl Copy, E>)).starts_with("a task returns a concrete type"));
        assert!(refusal(parse_quote!(-> !)).starts_with("a task must come to an end"));
        assert!(refusal(parse_quote!(-> &'static str)).starts_with("a task returns an owned type"));
    }

    #[test]
    fn only_plain_free_functions_are_tasks() {
        let refusals = |tokens: TokenStream| match syn::parse2::<Function>(tokens) {
            Err(error) => error.to_string(),
            Ok(function) => {
                let mut errors = Vec::new();
                function.check(&mut errors);
                errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            }
        };
        assert_eq!(
            refusals(quote!(
                pub(crate) async fn f(x: u8) -> u8 {
                    x
                }
            )),
            ""
        );
        assert!(
            refusals(quote!(
                struct S;
            ))
            .starts_with("a task is made of a function")
        );
        assert!(
            refusals(quote!(
                const X: u8 = 1;
            ))
            .starts_with("a task is made of a function")
        );
        assert!(
            refusals(quote!(
                fn f();
            ))
            .starts_with("a task needs a body")
        );
        assert!(
            refusals(quote!(
                const fn f() {}
            ))
            .starts_with("a task cannot be `const`")
        );
        assert!(
            refusals(quote!(
                unsafe fn f() {}
            ))
            .starts_with("a task must be safe")
        );
        assert!(
            refusals(quote!(
                extern "C" fn f() {}
            ))
            .starts_with("a task cannot be `extern`")
        );
        assert!(
            refusals(quote!(
                fn f<'a, T>() {}
            ))
            .starts_with("a task cannot be generic")
        );
        assert!(
            refusals(quote!(
                fn f()
                where
                    u8: Copy,
                {
                }
            ))
            .starts_with("a task takes no `where`")
        );
    }
}
