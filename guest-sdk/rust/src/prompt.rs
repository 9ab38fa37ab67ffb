//! What is appended to a state: text, generated text, images and role markers, joined with `+` as in SGLang.

use std::ops::Add;

use crate::generate::Gen;

/// Pieces to append, in order. Text, a [`Gen`] or an image turns into one; `+` joins them.
///
/// ```edition2021
/// # use sglhost_guest::prelude::*;
/// # fn main() {
/// # let question = String::from("What is 2 * 2?");
/// let tool = text("Question: ") + question + "\nTool: " + gen("tool").choices(["calculator", "search engine"]);
/// let answer = "Answer: " + gen("answer");
/// # let _: Prompt = tool + answer;
/// # }
/// ```
///
/// A chain of `+` begins with a literal before a [`Gen`], with a [`Gen`], or with [`text`]. A `String` before a
/// [`Gen`] needs `text(..)` too: were `String + Gen` allowed, Rust could no longer infer `String + &String` anywhere
/// in the crate.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a prompt does nothing until it is appended: `s.append(..)`, `s.user(..)`, `s += ..`"]
pub struct Prompt {
    pub(crate) parts: Vec<Part>,
}

/// One piece of a [`Prompt`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Text(String),
    Markup(String),
    Tokens(Vec<u32>),
    Image(Vec<u8>),
    Gen(Box<Gen>),
    BeginRole(String),
    EndRole,
}

/// Plain text; never becomes control tokens, whatever it says.
pub fn text(text: impl Into<String>) -> Prompt {
    Part::Text(text.into()).into()
}

/// Text in which the model's special tokens are recognised. Never pass it what a user wrote: it can forge roles.
pub fn markup(text: impl Into<String>) -> Prompt {
    Part::Markup(text.into()).into()
}

/// Tokens of the model, as they are.
pub fn tokens(tokens: impl Into<Vec<u32>>) -> Prompt {
    Part::Tokens(tokens.into()).into()
}

/// An image file's bytes: PNG, JPEG, WebP or GIF (first frame).
pub fn image(bytes: impl Into<Vec<u8>>) -> Prompt {
    Part::Image(bytes.into()).into()
}

/// A whole message of any role that the model's chat template knows.
pub fn role(role: impl Into<String>, content: impl Into<Prompt>) -> Prompt {
    let mut prompt = role_begin(role);
    prompt.parts.extend(content.into().parts);
    prompt.parts.push(Part::EndRole);
    prompt
}

/// The beginning of a message of any role.
pub fn role_begin(role: impl Into<String>) -> Prompt {
    Part::BeginRole(role.into()).into()
}

/// The end of the message that was begun last.
pub fn role_end() -> Prompt {
    Part::EndRole.into()
}

macro_rules! roles {
    ($($name:ident $begin:ident $end:ident $role:literal)*) => {$(
        #[doc = concat!("A whole ", $role, " message.")]
        pub fn $name(content: impl Into<Prompt>) -> Prompt {
            role($role, content)
        }

        #[doc = concat!("The beginning of a message of the ", $role, ".")]
        pub fn $begin() -> Prompt {
            role_begin($role)
        }

        #[doc = concat!("The end of a message of the ", $role, ".")]
        pub fn $end() -> Prompt {
            role_end()
        }
    )*};
}

roles! {
    system system_begin system_end "system"
    user user_begin user_end "user"
    assistant assistant_begin assistant_end "assistant"
}

impl From<Part> for Prompt {
    fn from(part: Part) -> Self {
        Self { parts: vec![part] }
    }
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Part::Text(text.to_owned()).into()
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Part::Text(text).into()
    }
}

impl From<&String> for Prompt {
    fn from(text: &String) -> Self {
        Part::Text(text.clone()).into()
    }
}

impl From<Gen> for Prompt {
    fn from(generated: Gen) -> Self {
        Part::Gen(Box::new(generated)).into()
    }
}

impl<P: Into<Prompt>> Add<P> for Prompt {
    type Output = Prompt;

    fn add(mut self, next: P) -> Prompt {
        self.parts.extend(next.into().parts);
        self
    }
}

impl<P: Into<Prompt>> Add<P> for Gen {
    type Output = Prompt;

    fn add(self, next: P) -> Prompt {
        Prompt::from(self) + next
    }
}

impl Add<Gen> for &str {
    type Output = Prompt;

    fn add(self, next: Gen) -> Prompt {
        Prompt::from(self) + next
    }
}

impl Add<Prompt> for &str {
    type Output = Prompt;

    fn add(self, next: Prompt) -> Prompt {
        Prompt::from(self) + next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::r#gen;

    #[test]
    fn plus_joins_in_order_whatever_comes_first() {
        let check = |prompt: Prompt, expect: &str| {
            let letters = prompt.parts.iter().map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Gen(asked) => format!("<{}>", asked.name.as_deref().unwrap_or_default()),
                Part::BeginRole(role) => format!("[{role}:"),
                Part::EndRole => "]".to_owned(),
                Part::Markup(_) | Part::Tokens(_) | Part::Image(_) => "?".to_owned(),
            });
            assert_eq!(letters.collect::<String>(), expect);
        };
        check("a".into(), "a");
        check("a" + r#gen("x") + "b", "a<x>b");
        check(text(String::from("a")) + &String::from("b") + r#gen("x"), "ab<x>");
        check(r#gen("x") + "b" + r#gen("y"), "<x>b<y>");
        check("a" + (r#gen("x") + String::from("b")), "a<x>b");
        check(user("hello") + assistant("a" + r#gen("x")), "[user:hello][assistant:a<x>]");
        check(assistant_begin() + "a" + assistant_end(), "[assistant:a]");
        check(markup("<s>") + tokens([1, 2]) + image([0_u8; 4]), "???");
    }
}
