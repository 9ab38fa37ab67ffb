use sglhost_guest::prelude::*;

/// Answers a question from several documents: reads each in a fork of its own, then answers from the notes.
#[program]
fn multi_document_qa(
    s: &mut State,
    /// What to answer.
    #[arg(default = "When can I see puffins on the island, and how do I get there?")]
    question: String,
    /// Where to look.
    #[arg(default = include_str!("../documents.txt").trim_end().split("\n\n").map(String::from).collect())]
    documents: Vec<String>,
) -> Value {
    s.system("You answer questions from documents, and say only what they say.");

    // Read: no document sees another, so the context is as short as it can be, and all are read at the same time. The
    // document comes first: its part of the cache serves every question that is asked of it.
    let mut forks = s.fork(documents.len());
    for (f, document) in forks.iter_mut().zip(&documents) {
        f.user(format!(
            "Document:\n{document}\n\nQuestion: {question}\nDoes the document help to answer? Note what it says."
        ));
        f.assistant("Helps: " + select("helps", ["yes", "no"]) + "\nNotes:" + gen("notes").stop("\n"));
    }

    // Merge: what helps goes to the parent, and all notes where nothing seems to.
    let helpful: Vec<usize> = (0..forks.len()).filter(|&i| forks[i]["helps"] == "yes").collect();
    let sources = if helpful.is_empty() { (0..forks.len()).collect() } else { helpful };
    s.user_block(|s| {
        for &i in &sources {
            s.append(format!("Notes on document {}:{}\n", i + 1, forks[i]["notes"]));
        }
        s.append(format!("\nQuestion: {question}"));
    });
    s.assistant("Answer:" + gen("answer"));

    json!({
        "answer": s["answer"].trim(),
        "sources": sources.iter().map(|i| i + 1).collect::<Vec<_>>(),
        "notes": forks.iter().map(|f| f["notes"].trim()).collect::<Vec<_>>(),
    })
}
