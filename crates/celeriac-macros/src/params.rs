//! The function's parameters: which are arguments, which the worker provides, which are refused.

use darling::FromAttributes;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Attribute, Error, Expr, ExprLit, FnArg, Ident, Lit, Meta, Pat, PatType, Result, Type, TypePath};

use crate::options::reworded;

/// The most arguments a task may have: tuples longer than this are not `CallArgs` in `celeriac-producer`.
const MAX_ARGUMENTS: usize = 16;

/// One parameter, in the function's order.
#[derive(Debug)]
pub(crate) struct Param {
    pub(crate) ty: Type,
    pub(crate) role: Role,
}

#[derive(Debug)]
pub(crate) enum Role {
    /// `&TaskContext`.
    Context,
    /// `State<..>`.
    Extractor,
    /// Everything else: comes in the message.
    Argument { ident: Ident, missing: Missing },
}

/// What an argument becomes that the message does not have.
#[derive(Debug, Clone)]
pub(crate) enum Missing {
    /// Left to its type: `None` for an option, an error for all others.
    ByType,
    /// `#[arg(default)]`.
    Default,
    /// `#[arg(default = ..)]`.
    Value(Box<Expr>),
}

/// An argument as callers know it: without the `r#` of a raw identifier.
pub(crate) fn keyword(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// What a type alone says about its parameter.
#[derive(Debug, PartialEq, Eq)]
enum Class {
    Context,
    Extractor,
    Argument,
}

#[derive(Debug, Default, FromAttributes)]
#[darling(attributes(arg), default)]
struct ArgOptions {
    #[darling(with = default_option)]
    default: Option<Missing>,
}

fn default_option(meta: &Meta) -> darling::Result<Option<Missing>> {
    match meta {
        Meta::Path(_) => Ok(Some(Missing::Default)),
        Meta::NameValue(pair) => Ok(Some(Missing::Value(Box::new(pair.value.clone())))),
        Meta::List(_) => {
            Err(darling::Error::custom("write `#[arg(default)]` or `#[arg(default = 3)]`").with_span(meta))
        }
    }
}

/// Reads all parameters, and reports all mistakes.
pub(crate) fn parse<'a>(inputs: impl IntoIterator<Item = &'a FnArg>, errors: &mut Vec<Error>) -> Vec<Param> {
    let mut params: Vec<Param> = Vec::new();
    for input in inputs {
        match parse_one(input) {
            Ok(param) => {
                let second = matches!(param.role, Role::Context)
                    && params.iter().any(|param| matches!(param.role, Role::Context));
                if second {
                    errors.push(Error::new_spanned(&param.ty, "a task has one context: take `&TaskContext` once"));
                }
                params.push(param);
            }
            Err(error) => errors.push(error),
        }
    }
    let mut arguments = params.iter().filter(|param| matches!(param.role, Role::Argument { .. }));
    if let Some(first_over) = arguments.nth(MAX_ARGUMENTS) {
        let why = format!("a task takes at most {MAX_ARGUMENTS} arguments: gather some of them in a struct");
        errors.push(Error::new_spanned(&first_over.ty, why));
    }
    params
}

fn parse_one(input: &FnArg) -> Result<Param> {
    let PatType { attrs, pat, ty, .. } = match input {
        FnArg::Typed(typed) => typed,
        FnArg::Receiver(receiver) => {
            let why = "a task is a free function without `self`: take what it needs as arguments, or shared state as `State<T>`";
            return Err(Error::new_spanned(receiver, why));
        }
    };
    if let Some(cfg) = attrs.iter().find(|attr| attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr")) {
        let why = "a task's parameters cannot depend on `cfg`: sender and worker must agree on them. Put the `cfg` on the function";
        return Err(Error::new_spanned(cfg, why));
    }
    let class = classify(ty)?;
    let options = ArgOptions::from_attributes(attrs).map_err(|error| reworded(error, &["default"]))?;
    if let Some(attr) = attrs.iter().find(|attr| is_arg(attr)).filter(|_| class != Class::Argument) {
        let why =
            "`#[arg(..)]` is for arguments: this parameter is provided by the worker and never comes in a message";
        return Err(Error::new_spanned(attr, why));
    }
    let role = match class {
        Class::Context => Role::Context,
        Class::Extractor => Role::Extractor,
        Class::Argument => Role::Argument { ident: name(pat)?, missing: options.default.unwrap_or(Missing::ByType) },
    };
    Ok(Param { ty: (**ty).clone(), role })
}

/// Is this our own `#[arg(..)]`?
pub(crate) fn is_arg(attr: &Attribute) -> bool {
    attr.path().is_ident("arg")
}

fn name(pat: &Pat) -> Result<Ident> {
    match pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => Ok(pat.ident.clone()),
        Pat::Wild(_) => Err(Error::new_spanned(
            pat,
            "an argument needs a name, which callers may use as its keyword: write `_name`",
        )),
        _ => Err(Error::new_spanned(
            pat,
            "an argument needs a plain name, which callers may use as its keyword: take it whole and destructure it in the body",
        )),
    }
}

fn classify(ty: &Type) -> Result<Class> {
    match peeled(ty) {
        Type::Reference(reference) => {
            let target = peeled(&reference.elem);
            let context = last_segment(target).is_some_and(|segment| segment == "TaskContext");
            if !context {
                return Err(borrowed(ty, target));
            }
            if reference.mutability.is_some() {
                return Err(Error::new_spanned(
                    ty,
                    "take `&TaskContext`: the context is shared, its methods need no `&mut`",
                ));
            }
            match &reference.lifetime {
                Some(lifetime) if lifetime.ident != "_" => Err(Error::new_spanned(
                    ty,
                    "take `&TaskContext` without a lifetime: the context lives as long as the task runs",
                )),
                _ => Ok(Class::Context),
            }
        }
        target => match last_segment(target) {
            Some(segment) if segment == "TaskContext" => Err(Error::new_spanned(
                ty,
                "take `&TaskContext`: the context belongs to the worker and is lent to the task",
            )),
            Some(segment) if segment == "State" => Ok(Class::Extractor),
            _ if has_impl(ty.to_token_stream()) => Err(Error::new_spanned(
                ty,
                "take a concrete type instead of `impl Trait`: an argument is decoded from a message, so its type must be known",
            )),
            _ if borrows(ty) => Err(Error::new_spanned(
                ty,
                "take an owned type: arguments are decoded from a message and owned by the task, so they cannot borrow",
            )),
            _ => Ok(Class::Argument),
        },
    }
}

fn borrowed(whole: &Type, target: &Type) -> Error {
    let instead = match target {
        Type::Slice(slice) => format!("Vec<{}>", shown(&slice.elem)),
        target if last_segment(target).is_some_and(|segment| segment == "str") => "String".to_owned(),
        target => shown(target),
    };
    let (whole_text, what) = (shown(whole), last_segment(target).is_some_and(|segment| segment == "State"));
    let why = if what {
        "the worker hands the state over by value"
    } else {
        "arguments are decoded from a message and owned by the task"
    };
    Error::new_spanned(whole, format!("take `{instead}` instead of `{whole_text}`: {why}"))
}

/// The type without parentheses and the invisible groups in which `macro_rules!` hands fragments on.
pub(crate) fn peeled(mut ty: &Type) -> &Type {
    loop {
        match ty {
            Type::Group(group) => ty = &group.elem,
            Type::Paren(paren) => ty = &paren.elem,
            _ => return ty,
        }
    }
}

/// `State` of `celeriac::State<Db>`.
fn last_segment(ty: &Type) -> Option<&Ident> {
    match ty {
        Type::Path(TypePath { qself: None, path, .. }) => path.segments.last().map(|segment| &segment.ident),
        _ => None,
    }
}

/// Whether a reference or a lifetime other than `'static` stands anywhere in the type.
pub(crate) fn borrows(ty: &Type) -> bool {
    fn any(tokens: TokenStream) -> bool {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            let found = match token {
                TokenTree::Punct(punct) if punct.as_char() == '&' => true,
                TokenTree::Punct(punct) if punct.as_char() == '\'' => {
                    !matches!(tokens.peek(), Some(TokenTree::Ident(ident)) if ident == "static")
                }
                // A constant in braces is no type.
                TokenTree::Group(group) => group.delimiter() != Delimiter::Brace && any(group.stream()),
                _ => false,
            };
            if found {
                return true;
            }
        }
        false
    }
    any(ty.to_token_stream())
}

/// Whether `impl` stands anywhere in the type.
pub(crate) fn has_impl(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == "impl",
        TokenTree::Group(group) => has_impl(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// The type as a user would write it, for messages.
pub(crate) fn shown(ty: &Type) -> String {
    let text = ty.to_token_stream().to_string();
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let word = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(c) = chars.next() {
        let keep = c != ' '
            || out.ends_with([',', ';'])
            || (out.chars().last().is_some_and(word) && chars.peek().copied().is_some_and(word));
        if keep {
            out.push(c);
        }
    }
    out
}

/// Is this expression a string literal? A default such as `"x"` is turned into a `String` then.
pub(crate) fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Lit(ExprLit { lit: Lit::Str(_), .. }))
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn refusal(ty: Type) -> String {
        classify(&ty).unwrap_err().to_string()
    }

    fn refused_param(input: FnArg) -> String {
        parse_one(&input).unwrap_err().to_string()
    }

    #[test]
    fn the_last_segment_decides_what_a_parameter_is() {
        assert_eq!(classify(&parse_quote!(&TaskContext)).unwrap(), Class::Context);
        assert_eq!(classify(&parse_quote!(&'_ celeriac::TaskContext)).unwrap(), Class::Context);
        assert_eq!(classify(&parse_quote!((&(TaskContext)))).unwrap(), Class::Context);
        assert_eq!(classify(&parse_quote!(State<Db>)).unwrap(), Class::Extractor);
        assert_eq!(classify(&parse_quote!(celeriac::State<Arc<dyn Db>>)).unwrap(), Class::Extractor);
        assert_eq!(classify(&parse_quote!(Vec<State<Db>>)).unwrap(), Class::Argument);
        assert_eq!(classify(&parse_quote!(Cow<'static, str>)).unwrap(), Class::Argument);
        assert_eq!(classify(&parse_quote!((u8, [u8; 4]))).unwrap(), Class::Argument);
    }

    #[test]
    fn what_borrows_is_refused_with_the_owned_type() {
        assert!(refusal(parse_quote!(&str)).starts_with("take `String` instead of `&str`: "));
        assert!(refusal(parse_quote!(&'static str)).starts_with("take `String` instead of `&'static str`: "));
        assert!(refusal(parse_quote!(&[Vec<u8>])).starts_with("take `Vec<Vec<u8>>` instead of `&[Vec<u8>]`: "));
        assert!(refusal(parse_quote!(&mut a::B)).starts_with("take `a::B` instead of `&mut a::B`: "));
        assert!(refusal(parse_quote!(&State<Db>)).starts_with("take `State<Db>` instead of `&State<Db>`: "));
        assert!(refusal(parse_quote!(Vec<&str>)).starts_with("take an owned type: "));
        assert!(refusal(parse_quote!(Cow<'_, str>)).starts_with("take an owned type: "));
        assert!(refusal(parse_quote!(Vec<impl Copy>)).starts_with("take a concrete type instead of `impl Trait`"));
    }

    #[test]
    fn the_context_is_lent_and_shared() {
        assert!(refusal(parse_quote!(TaskContext)).starts_with("take `&TaskContext`: "));
        assert!(refusal(parse_quote!(&mut TaskContext)).starts_with("take `&TaskContext`: "));
        assert!(refusal(parse_quote!(&'static TaskContext)).starts_with("take `&TaskContext` without a lifetime"));
    }

    #[test]
    fn defaults_are_read() {
        let missing = |input: FnArg| match parse_one(&input).unwrap().role {
            Role::Argument { missing, .. } => missing,
            other => panic!("{other:?}"),
        };
        assert!(matches!(missing(parse_quote!(x: u8)), Missing::ByType));
        assert!(matches!(missing(parse_quote!(#[arg(default)] x: u8)), Missing::Default));
        assert!(matches!(missing(parse_quote!(#[arg(default = 2 + 1)] mut x: u8)), Missing::Value(_)));
    }

    #[test]
    fn odd_parameters_are_refused() {
        assert!(refused_param(parse_quote!((a, b): (u8, u8))).starts_with("an argument needs a plain name"));
        assert!(refused_param(parse_quote!(_: u8)).starts_with("an argument needs a name"));
        assert!(
            refused_param(parse_quote!(#[arg(default)] db: State<Db>)).starts_with("`#[arg(..)]` is for arguments")
        );
        assert!(
            refused_param(parse_quote!(#[arg(defualt)] x: u8))
                .starts_with("unknown option `defualt`; did you mean `default`?")
        );
        assert!(
            refused_param(parse_quote!(#[cfg(unix)] x: u8)).starts_with("a task's parameters cannot depend on `cfg`")
        );
        assert!(refused_param(parse_quote!(&self)).starts_with("a task is a free function without `self`"));
    }

    #[test]
    fn sixteen_arguments_are_enough() {
        let refused = |count: usize| {
            let mut errors = Vec::new();
            parse(&vec![parse_quote!(x: u8); count], &mut errors);
            errors.iter().map(ToString::to_string).collect::<String>()
        };
        assert_eq!(refused(16), "");
        assert_eq!(refused(17), "a task takes at most 16 arguments: gather some of them in a struct");
    }

    #[test]
    fn a_raw_identifier_is_known_without_its_mark() {
        assert_eq!(keyword(&parse_quote!(r#type)), "type");
    }
}
