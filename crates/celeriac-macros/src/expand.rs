//! What the attribute expands to.
//!
//! INVARIANT: every path is absolute, every local name starts with `__celeriac`, so that nothing depends on what the user's module
//! holds. Tokens that rustc may report as an error carry the span of what the user wrote.

use std::time::Duration;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, ExprLit, Lit, Meta, Path, parse_quote};

use crate::options::{Options, check_name};
use crate::params::{self, Missing, Param, Role, is_text, keyword};
use crate::signature::{self, Function, Outcome};

/// The attribute. `worker`: also implement what runs the task.
pub(crate) fn task(options: TokenStream, item: TokenStream, worker: bool) -> TokenStream {
    let function: Function = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => return with_errors(item, [error]),
    };
    let mut errors = Vec::new();
    // With wrong options the task is still defined, so that its users' code is not reported as well.
    let options = Options::parse(options).unwrap_or_else(|error| {
        errors.push(error);
        Options::default()
    });
    let options_only = errors.len();
    function.check(&mut errors);
    let params = params::parse(&function.sig.inputs, &mut errors);
    let outcome = signature::outcome(&function.sig.output).map_err(|error| errors.push(error));
    let name = task_name(&function, &options).map_err(|error| errors.push(error));
    match (outcome, name) {
        (Ok(outcome), Ok(name)) if errors.len() == options_only => {
            let krate = options.krate.clone().unwrap_or_else(|| parse_quote!(::celeriac));
            let task = Task { krate, name, function: &function, params, outcome };
            with_errors(task.expand(&options, worker), errors)
        }
        _ => with_errors(function.to_token_stream(), errors),
    }
}

fn with_errors(tokens: TokenStream, errors: impl IntoIterator<Item = Error>) -> TokenStream {
    let errors = errors.into_iter().map(Error::into_compile_error);
    quote!(#tokens #(#errors)*)
}

fn task_name(function: &Function, options: &Options) -> Result<String, Error> {
    match &options.name {
        Some(name) => Ok(name.value()),
        None => {
            let name = function.sig.ident.unraw().to_string();
            check_name("name", &name).map_err(|why| Error::new_spanned(&function.sig.ident, why))?;
            Ok(name)
        }
    }
}

/// What rustc says about these tokens is reported at `span`.
fn at(span: Span) -> Span {
    Span::call_site().located_at(span)
}

/// The same name, as ours: a lint about the user's own use of it does not apply.
fn relocated(ident: &Ident, span: Span) -> Ident {
    let mut ident = ident.clone();
    ident.set_span(at(span));
    ident
}

/// All that the expansion is made of.
struct Task<'a> {
    krate: Path,
    name: String,
    function: &'a Function,
    params: Vec<Param>,
    outcome: Outcome,
}

impl Task<'_> {
    fn expand(&self, options: &Options, worker: bool) -> TokenStream {
        let function = self.function;
        let parts = [self.define_type(), self.signature(), self.define(options), self.mention()];
        let run = worker.then(|| self.run());
        quote!(#function #(#parts)* #run)
    }

    fn ident(&self) -> &Ident {
        &self.function.sig.ident
    }

    fn arguments(&self) -> impl Iterator<Item = (&Ident, &Param)> {
        self.params.iter().filter_map(|param| match &param.role {
            Role::Argument { ident, .. } => Some((ident, param)),
            Role::Context | Role::Extractor => None,
        })
    }

    /// The function's attributes of these names: what holds for the function holds for the type too.
    fn attrs<'s>(&'s self, names: &'s [&str]) -> impl Iterator<Item = &'s Attribute> {
        self.function.attrs.iter().filter(|attr| names.iter().any(|name| attr.path().is_ident(name)))
    }

    fn cfgs(&self) -> TokenStream {
        let cfgs = self.attrs(&["cfg"]);
        quote!(#(#cfgs)*)
    }

    /// `pub struct add {}`: braces keep it out of the namespace of values, where the function lives.
    fn define_type(&self) -> TokenStream {
        let (ident, vis, cfgs) = (self.ident(), &self.function.vis, self.cfgs());
        let hidden = self.attrs(&["doc"]).filter(|attr| matches!(attr.meta, Meta::List(_)));
        let summary = summary(&self.function.attrs);
        let doc = format!("The task `{}`: [`s`](Self::s) makes its signature.", self.name);
        let docs = summary.iter().map(String::as_str).chain([""]).filter(|_| !summary.is_empty()).chain([doc.as_str()]);
        quote! {
            #cfgs
            #(#[doc = #docs])*
            #(#hidden)*
            #[allow(non_camel_case_types, dead_code, unreachable_pub, reason = "the task's type is named as its function")]
            #[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
            #vis struct #ident {}
        }
    }

    /// `add::s`.
    fn signature(&self) -> TokenStream {
        let (krate, ident, vis, cfgs, output) =
            (&self.krate, self.ident(), &self.function.vis, self.cfgs(), &self.outcome.output);
        let deprecated = self.attrs(&["deprecated"]);
        let types: Vec<_> = self.arguments().map(|(_, param)| &param.ty).collect();
        let names = self.arguments().map(|(ident, _)| relocated(ident, ident.span()));
        // A type that cannot be an argument is reported where the type stands.
        let values: Vec<_> = self.arguments().map(|(ident, param)| relocated(ident, param.ty.span())).collect();
        let checks = values.iter().map(|value| quote_spanned!(value.span()=> __celeriac_argument(&#value);));
        let span = types.first().map_or_else(Span::call_site, |ty| at(ty.span()));
        let made = quote_spanned!(span=> #krate::__private::signature::<Self, _>((#(#values,)*)));
        let doc = format!("Makes a signature of the task `{}`: these arguments and the task's own options.", self.name);
        let s = Ident::new("s", at(ident.span()));
        quote! {
            #cfgs
            impl #ident {
                #[doc = #doc]
                #(#deprecated)*
                #[allow(
                    dead_code, private_interfaces, unreachable_pub, clippy::too_many_arguments, clippy::fn_params_excessive_bools,
                    reason = "it is as the task's function is"
                )]
                #vis fn #s(#(#names: #types),*) -> #krate::TypedSignature<#output> {
                    fn __celeriac_argument<T: #krate::__private::TaskArgument>(_: &T) {}
                    #(#checks)*
                    #made
                }
            }
        }
    }

    fn define(&self, options: &Options) -> TokenStream {
        let (krate, ident, cfgs, output, name) =
            (&self.krate, self.ident(), self.cfgs(), &self.outcome.output, &self.name);
        let parameters = self.arguments().map(|(ident, _)| keyword(ident));
        let options = self.options(options);
        quote! {
            #cfgs
            #[automatically_derived]
            impl #krate::__private::Define for #ident {
                const NAME: &'static ::core::primitive::str = #name;
                const PARAMETERS: &'static [&'static ::core::primitive::str] = &[#(#parameters),*];
                type Output = #output;
                fn options() -> #krate::TaskOptions { #options }
            }
        }
    }

    fn options(&self, options: &Options) -> TokenStream {
        let krate = &self.krate;
        let Options {
            acks_late,
            compression,
            krate: _,
            expires,
            ignore_result,
            name: _,
            priority,
            queue,
            result_expires,
            serializer,
            track_started,
        } = options;
        let set = [
            ("acks_late", acks_late.map(|value| quote!(#value))),
            ("compression", compression.as_ref().map(|text| quote!(::core::convert::Into::into(#text)))),
            ("expires", expires.map(duration)),
            ("ignore_result", ignore_result.map(|value| quote!(#value))),
            ("priority", priority.map(|level| quote!(#krate::__private::priority(#level)))),
            ("queue", queue.as_ref().map(|name| quote!(#krate::__private::queue_name(#name)))),
            ("result_expires", result_expires.map(duration)),
            ("serializer", serializer.as_ref().map(|text| quote!(::core::convert::Into::into(#text)))),
            ("track_started", track_started.map(|value| quote!(#value))),
        ];
        let set: Vec<_> = set
            .into_iter()
            .filter_map(|(field, value)| value.map(|value| (Ident::new(field, Span::call_site()), value)))
            .map(|(field, value)| quote!(__celeriac_options.#field = ::core::option::Option::Some(#value);))
            .collect();
        let default = quote!(<#krate::TaskOptions as ::core::default::Default>::default());
        if set.is_empty() {
            return default;
        }
        quote! {
            let mut __celeriac_options = #default;
            #(#set)*
            __celeriac_options
        }
    }

    /// A use of the function, for where no worker calls it.
    fn mention(&self) -> TokenStream {
        let (ident, cfgs) = (self.ident(), self.cfgs());
        quote! {
            #cfgs
            const _: fn() = || {
                #[allow(deprecated, reason = "a deprecated task is still a task")]
                let _ = #ident;
            };
        }
    }

    fn run(&self) -> TokenStream {
        let (krate, ident, cfgs) = (&self.krate, self.ident(), self.cfgs());
        let blocking = self.function.sig.asyncness.is_none();
        let mutable = self.arguments().next().map(|_| quote!(mut));
        let local = |index: usize| Ident::new(&format!("__celeriac_{index}"), Span::call_site());
        let decoded = self.params.iter().enumerate().filter_map(|(index, param)| match &param.role {
            Role::Argument { ident, missing } => Some(self.decoded(&local(index), param, &keyword(ident), missing)),
            Role::Context | Role::Extractor => None,
        });
        let extracted = self.params.iter().enumerate().filter_map(|(index, Param { ty, role })| match role {
            Role::Extractor => {
                let local = local(index);
                Some(quote_spanned! {at(ty.span())=>
                    let #local: #ty = <#ty as #krate::__private::FromContext>::from_context(__celeriac_cx)?;
                })
            }
            Role::Argument { .. } | Role::Context => None,
        });
        let passed = self.params.iter().enumerate().map(|(index, param)| match param.role {
            Role::Context => Ident::new("__celeriac_cx", Span::call_site()),
            Role::Extractor | Role::Argument { .. } => local(index),
        });
        let wait = (!blocking).then(|| quote_spanned!(at(ident.span())=> .await));
        let result = match self.outcome.fallible {
            None => quote!(::core::result::Result::Ok(__celeriac_outcome)),
            Some(span) => {
                let error = quote_spanned!(at(span)=> #krate::__private::into_task_error(__celeriac_error));
                quote! {
                    match __celeriac_outcome {
                        ::core::result::Result::Ok(__celeriac_output) => ::core::result::Result::Ok(__celeriac_output),
                        ::core::result::Result::Err(__celeriac_error) => ::core::result::Result::Err(#error),
                    }
                }
            }
        };
        let body = quote! {
            #(#decoded)*
            __celeriac_args.finish()?;
            #(#extracted)*
            let __celeriac_outcome = #ident(#(#passed),*)#wait;
            #result
        };
        // A future that is not `Send` is reported at the function's name.
        let future = quote_spanned!(at(ident.span())=> async move { #body });
        let promise = quote_spanned! {at(ident.span())=>
            impl ::core::future::Future<
                Output = #krate::TaskResult<<Self as #krate::__private::Define>::Output>,
            > + ::core::marker::Send + 'a
        };
        quote! {
            #cfgs
            #[automatically_derived]
            #[allow(deprecated, clippy::manual_async_fn, reason = "the future is promised to be `Send`")]
            impl #krate::__private::Task for #ident {
                const BLOCKING: ::core::primitive::bool = #blocking;
                fn run<'a>(
                    __celeriac_cx: &'a #krate::TaskContext,
                    #mutable __celeriac_args: #krate::__private::Arguments<'a>,
                ) -> #promise {
                    #future
                }
            }
        }
    }

    fn decoded(&self, local: &Ident, Param { ty, .. }: &Param, keyword: &str, missing: &Missing) -> TokenStream {
        let value = match missing {
            Missing::ByType => quote_spanned!(at(ty.span())=> __celeriac_args.required(#keyword)?),
            Missing::Default => quote_spanned! {at(ty.span())=>
                __celeriac_args.or_else(#keyword, ::core::default::Default::default)?
            },
            Missing::Value(expr) => {
                let value = default_value(expr);
                quote_spanned!(at(ty.span())=> __celeriac_args.or_else(#keyword, || -> #ty { #value })?)
            }
        };
        quote_spanned!(at(ty.span())=> let #local: #ty = #value;)
    }
}

/// The user's expression; text is turned into the type that owns it, such as `String`.
fn default_value(expr: &Expr) -> TokenStream {
    if is_text(expr) {
        quote_spanned!(at(expr.span())=> ::core::convert::From::from(#expr))
    } else {
        expr.to_token_stream()
    }
}

fn duration(value: Duration) -> TokenStream {
    let (seconds, nanos) = (value.as_secs(), value.subsec_nanos());
    quote!(::core::time::Duration::new(#seconds, #nanos))
}

/// The first paragraph of the function's documentation. Not more: its examples are to be run once.
fn summary(attrs: &[Attribute]) -> Vec<String> {
    let lines = attrs.iter().filter_map(|attr| match &attr.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    let lines: Vec<String> = lines.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let blank = |line: &&String| line.trim().is_empty();
    lines
        .iter()
        .skip_while(blank)
        .take_while(|line| !blank(line) && !line.trim_start().starts_with("```"))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(options: TokenStream, item: TokenStream, worker: bool) -> String {
        let tokens = task(options, item, worker);
        syn::parse2::<syn::File>(tokens.clone()).unwrap();
        tokens.to_string()
    }

    #[test]
    fn nothing_that_runs_a_task_is_made_without_the_feature() {
        let item = quote!(
            async fn add(x: u8) -> u8 {
                x
            }
        );
        assert!(!expanded(quote!(), item.clone(), false).contains("Arguments"));
        assert!(expanded(quote!(), item, true).contains("Arguments"));
    }

    #[test]
    fn only_the_first_paragraph_of_the_documentation_is_taken_over() {
        let attrs = vec![
            parse_quote!(#[doc = " Adds."]),
            parse_quote!(#[doc = " Both."]),
            parse_quote!(#[doc = ""]),
            parse_quote!(#[doc = " ```"]),
        ];
        assert_eq!(summary(&attrs), [" Adds.", " Both."]);
        assert_eq!(summary(&[parse_quote!(#[doc = "\n Adds.\n\n More.\n"])]), [" Adds."]);
        assert!(summary(&[]).is_empty());
    }

    #[test]
    fn a_task_with_wrong_options_is_still_defined() {
        let tokens = task(
            quote!(quue = "mail"),
            quote!(
                fn add(x: u8) {}
            ),
            false,
        )
        .to_string();
        assert!(tokens.contains("struct add") && tokens.contains("compile_error"), "{tokens}");
    }

    #[test]
    fn a_refused_function_stays() {
        let tokens = task(
            quote!(),
            quote!(
                fn add(#[arg(default)] x: &str) {}
            ),
            true,
        )
        .to_string();
        assert!(tokens.starts_with("fn add (x : & str) { }") && tokens.contains("compile_error"), "{tokens}");
        assert!(!tokens.contains("struct"), "{tokens}");
    }

    #[test]
    fn one_context_is_enough() {
        let tokens = task(
            quote!(),
            quote!(
                fn add(a: &TaskContext, b: &TaskContext) {}
            ),
            true,
        )
        .to_string();
        assert!(tokens.contains("a task has one context"), "{tokens}");
    }

    #[test]
    fn a_long_function_name_is_refused() {
        let ident = Ident::new(&"x".repeat(256), Span::call_site());
        assert!(task(quote!(), quote!(fn #ident() {}), true).to_string().contains("`name` has 256 bytes"));
        assert!(!task(quote!(name = "short"), quote!(fn #ident() {}), true).to_string().contains("compile_error"));
    }
}
