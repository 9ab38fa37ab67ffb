#!/usr/bin/env python3
"""multi_document_qa, from the client's side: the same steps as src/lib.rs, each a completion call."""

import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "client"))
from sglhost_client import gen, main, parallel, select

QUESTION = "When can I see puffins on the island, and how do I get there?"
DOCUMENTS = (FOLDER / "documents.txt").read_text().rstrip().split("\n\n")


def multi_document_qa(s, question=QUESTION, documents=DOCUMENTS):
    """Answers a question from several documents: reads each in a fork of its own, then answers from the notes."""
    s.system("You answer questions from documents, and say only what they say.")

    def read(f, document):
        f.user(
            f"Document:\n{document}\n\nQuestion: {question}\nDoes the document help to answer? Note what it says."
        )
        f.assistant("Helps: ", select("helps", ["yes", "no"]), "\nNotes:", gen("notes", stop="\n"))
        return f

    forks = parallel(read, s.fork(len(documents)), documents)

    everything = range(len(forks))
    sources = [i for i in everything if forks[i]["helps"] == "yes"] or list(everything)
    notes = "".join(f"Notes on document {i + 1}:{forks[i]['notes']}\n" for i in sources)
    s.user(notes, f"\nQuestion: {question}")
    s.assistant("Answer:", gen("answer"))

    return {
        "answer": s["answer"].strip(),
        "sources": [i + 1 for i in sources],
        "notes": [f["notes"].strip() for f in forks],
    }


if __name__ == "__main__":
    main(multi_document_qa)
