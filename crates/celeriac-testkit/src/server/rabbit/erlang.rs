//! Erlang expressions that a server evaluates: in milliseconds, where `rabbitmqctl` takes a third of a second.

use std::process::{Command, Stdio};

use tokio::io::AsyncWriteExt as _;

use crate::server::patience::PATIENCE;

/// An expression whose value is text.
#[derive(Debug)]
pub(super) struct Expression(String);

impl Expression {
    /// Its value as Erlang writes it.
    pub(super) fn of(expression: &str) -> Self {
        Self::text(&format!(r#"io_lib:format("~0tp", [begin {expression} end])"#))
    }

    /// Its value is text already.
    pub(super) fn text(expression: &str) -> Self {
        Self(expression.to_owned())
    }

    /// Its value, by way of `call`, which is `erl_call` with a server; else why there is none.
    pub(super) async fn eval(&self, call: Command) -> Result<String, String> {
        let mut call = tokio::process::Command::from(call);
        // The value is printed there; what would be returned is not in Erlang's own form.
        call.args(["-e", "-fetch_stdout"]).kill_on_drop(true);
        call.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let code = format!(
            r#"try {} of CeleriacText -> io:put_chars([$=, CeleriacText])
            catch CeleriacClass:CeleriacReason -> io:format("!~0tp", [{{CeleriacClass, CeleriacReason}}]) end.{}"#,
            ascii(&self.0),
            '\n'
        );
        let answered = async {
            let mut called = call.spawn()?;
            if let Some(mut input) = called.stdin.take() {
                input.write_all(code.as_bytes()).await?;
            }
            called.wait_with_output().await
        };
        let output = match tokio::time::timeout(PATIENCE, answered).await {
            Ok(output) => output.map_err(|error| format!("`erl_call` failed: {error}"))?,
            Err(_) => return Err(format!("no answer within {PATIENCE:?}")),
        };
        let said = String::from_utf8_lossy(&output.stdout);
        // What the printer returns stands behind what it printed.
        let printed = said.strip_suffix("{ok, ok}").map(|printed| printed.split_at_checked(1));
        match printed.flatten() {
            Some(("=", text)) => Ok(text.to_owned()),
            Some(("!", reason)) => Err(reason.to_owned()),
            _ => Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr))),
        }
    }
}

/// What is read as code is taken for Latin-1.
fn ascii(code: &str) -> String {
    let characters = code.chars().map(|character| match character {
        '\0'..='\x7f' => character.to_string(),
        other => format!(r"\x{{{:X}}}", u32::from(other)),
    });
    characters.collect()
}

/// `text` as a binary.
pub(super) fn binary(text: &str) -> String {
    let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    format!("<<{}>>", bytes.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_binary_of_its_bytes() {
        assert_eq!(binary("a\"é"), "<<97,34,195,169>>");
        assert_eq!(binary(""), "<<>>");
    }
}
