use sglhost_guest::prelude::*;

const CHARACTER_REGEX: &str = concat!(
    r#"\{\n"#,
    r#"    "name": "[\w\d\s]{1,16}",\n"#,
    r#"    "house": "(Gryffindor|Slytherin|Ravenclaw|Hufflepuff)",\n"#,
    r#"    "blood status": "(Pure-blood|Half-blood|Muggle-born)",\n"#,
    r#"    "occupation": "(student|teacher|auror|ministry of magic|death eater|order of the phoenix)",\n"#,
    r#"    "wand": \{\n"#,
    r#"        "wood": "[\w\d\s]{1,16}",\n"#,
    r#"        "core": "[\w\d\s]{1,16}",\n"#,
    r#"        "length": [0-9]{1,2}\.[0-9]{0,2}\n"#,
    r#"    \},\n"#,
    r#"    "alive": "(Alive|Deceased)",\n"#,
    r#"    "patronus": "[\w\d\s]{1,16}",\n"#,
    r#"    "bogart": "[\w\d\s]{1,16}"\n"#,
    r#"\}"#,
);

/// Fills in a form about a character, in JSON.
#[program]
fn character_gen(
    s: &mut State,
    /// Who it is about.
    name: String,
) {
    s.user(format!(
        "{name} is a character in Harry Potter. Please fill in the following information about this character."
    ));
    s.assistant(gen("json_output").max_tokens(256).regex(CHARACTER_REGEX));
}
