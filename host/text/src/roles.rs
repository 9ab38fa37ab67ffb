//! The markup that a model's chat template puts around each turn of a conversation.
//!
//! Programs open and close roles one by one, generate in the middle of an assistant's turn, and may have two such turns
//! running; a template renders whole conversations. So the template is asked once, at load, what it writes before and
//! after each role ([`derive`]), and turns are then assembled from that. For ordinary conversations the result is byte
//! for byte what Hugging Face's `apply_chat_template` renders.
//!
//! What cannot be equal, because a context only grows and text is taken as it is:
//! - templates that trim a message (Llama 3, Gemma): text with white space at its ends keeps it;
//! - templates that move the system message into the *last* user turn (Mistral 7B v0.3 with several turns): it stays
//!   in front of the first;
//! - templates that write the conversation's last assistant turn differently (Qwen3's empty thoughts): it is written as
//!   one of the earlier ones;
//! - roles in an order that the template refuses are written with the markup they ordinarily have.
//!
//! *Not here*: the begin-of-text token, which the context puts in front once ([`Roles::starts_with_bos`]).

mod date;
mod derive;
mod template;

use std::{sync::Arc, time::Duration};

use sglhost_core::{Error, TokenId};

use self::{
    derive::{BOS, Bos, Derived},
    template::Template,
};
use crate::{Segment, TextError, Tokenizer};

/// What is written around one turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleMarkup {
    /// Before the turn.
    pub prefix: String,
    /// After `prefix`, if the turn begins with text that the program appends. Empty for most templates; a space for
    /// Mistral's, where the model itself generates it.
    pub before_text: String,
    /// After `prefix`, if the turn begins with text that the model generates. Empty for most templates; the opening
    /// mark of the thoughts for some that reason.
    pub before_generation: String,
    /// After the turn.
    pub suffix: String,
}

/// How a model's chat template writes roles. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Roles {
    derived: Option<Arc<Known>>,
}

#[derive(Debug)]
struct Known {
    derived: Derived,
    default_system: Option<String>,
    end_of_turn: Vec<TokenId>,
}

impl Roles {
    /// Derives the markup of `template`. Its function `strftime_now` is not defined; see [`Roles::from_template_at`].
    ///
    /// # Errors
    /// [`TextError::Template`] for a template that does not parse, fails, or hides what a message says.
    pub fn from_template(template: &str, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        Self::derive(template, tokenizer, None)
    }

    /// Derives the markup of `template`, which may print the date: `now` is the time since the Unix epoch.
    ///
    /// # Errors
    /// As [`Roles::from_template`].
    pub fn from_template_at(template: &str, tokenizer: &Tokenizer, now: Duration) -> Result<Self, TextError> {
        Self::derive(template, tokenizer, Some(now))
    }

    fn derive(template: &str, tokenizer: &Tokenizer, now: Option<Duration>) -> Result<Self, TextError> {
        let text = |id: Option<TokenId>| {
            id.map_or(String::new(), |id| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned())
        };
        let bos = text(tokenizer.bos());
        let eos = text(tokenizer.eos());
        let template = Template::new(template, BOS, eos, now).map_err(|error| {
            let place = error.line().map_or(String::new(), |line| format!(" (line {line})"));
            TextError::template(format!("does not parse{place}: {error}"))
        })?;
        let derived = derive::derive(&template, Bos { text: &bos, added: tokenizer.adds_bos() })?;
        let roles = Self { derived: Some(Arc::new(Known { derived, default_system: None, end_of_turn: Vec::new() })) };
        let default_system = roles.find_default_system();
        let end_of_turn = roles.find_end_of_turn(tokenizer);
        Ok(Self {
            derived: roles
                .derived
                .and_then(Arc::into_inner)
                .map(|known| Arc::new(Known { default_system, end_of_turn, ..known })),
        })
    }

    /// For a model without a chat template: every role is an error that names the way out; contexts of plain text work.
    #[must_use]
    pub fn plain() -> Self {
        Self { derived: None }
    }

    /// What is written around a turn of `role` when the turn before it was one of `previous` (none: it is the first).
    ///
    /// # Errors
    /// The template has no such role, or not there; or the model has no template.
    pub fn open(&self, role: &str, previous: Option<&str>) -> Result<RoleMarkup, Error> {
        let Some(known) = &self.derived else {
            return Err(Error::invalid(format!(
                "role {role:?}: the model has no chat template; give it one with `--chat-template FILE`, or append text \
                 without roles"
            )));
        };
        let Some(openings) = known.derived.openings.get(role) else {
            let names: Vec<&str> = self.names().collect();
            return Err(Error::invalid(format!(
                "role {role:?} is not in the model's chat template, which has {}; `--chat-template FILE` overrides it",
                names.join(", ")
            )));
        };
        if let Some(markup) = openings.get(&previous.map(str::to_owned)) {
            return Ok(markup.clone());
        }
        let Some(usual) = self.markup(role).filter(|_| role != derive::SYSTEM) else {
            return Err(Error::invalid(format!(
                "role {role:?}: the model's chat template has it only at the start of a conversation"
            )));
        };
        let mut markup = usual.clone();
        if previous.is_none()
            && let Some(system) = self.default_system()
        {
            markup.prefix.insert_str(0, system);
        }
        Ok(markup)
    }

    /// What is ordinarily written around a turn of `role`, in the middle of a conversation.
    #[must_use]
    pub fn markup(&self, role: &str) -> Option<&RoleMarkup> {
        let openings = self.derived.as_ref()?.derived.openings.get(role)?;
        let usual = derive::usual_previous(role).map(str::to_owned);
        openings.get(&usual).or_else(|| openings.values().next())
    }

    /// The roles there are.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let known = |role: &&str| self.derived.as_ref().is_some_and(|known| known.derived.openings.contains_key(*role));
        derive::ROLES.into_iter().filter(known)
    }

    /// What the template puts in front of a conversation whose first role is not system: a whole system turn. It is
    /// part of what [`Roles::open`] gives for a first turn.
    #[must_use]
    pub fn default_system(&self) -> Option<&str> {
        self.derived.as_ref()?.default_system.as_deref()
    }

    /// Whether the template itself starts a conversation with the begin-of-text token. The token is no part of any
    /// markup given here: a context that opens a role puts it in front once, if this or [`Tokenizer::adds_bos`] says so.
    #[must_use]
    pub fn starts_with_bos(&self) -> bool {
        self.derived.as_ref().is_some_and(|known| known.derived.starts_with_bos)
    }

    /// Tokens that end an assistant's turn; each also ends a call, as end-of-text does.
    #[must_use]
    pub fn end_of_turn(&self) -> &[TokenId] {
        self.derived.as_ref().map_or(&[], |known| &known.end_of_turn)
    }

    fn find_default_system(&self) -> Option<String> {
        let known = self.derived.as_ref()?;
        let first = &known.derived.openings.get(derive::USER)?.get(&None)?.prefix;
        let system = first.strip_suffix(self.markup(derive::USER)?.prefix.as_str())?;
        (!system.is_empty()).then(|| system.to_owned())
    }

    fn find_end_of_turn(&self, tokenizer: &Tokenizer) -> Vec<TokenId> {
        let suffix = self.markup(derive::ASSISTANT).map_or("", |markup| markup.suffix.as_str());
        let tokens = tokenizer.encode(&[Segment::markup(suffix)]);
        tokens.into_iter().find(|&token| tokenizer.is_special(token)).into_iter().collect()
    }
}
