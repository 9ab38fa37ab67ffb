"""A program whose every word is an attack on the page: markup, terminal escapes, text that runs backwards.

Made from `tip_suggestion` by writing over its texts where they lie in the component, each with one of as many bytes: so
it still forks, generates and ends well.
"""

MARKUP = "<img src=/x onerror=alert(1)>"
ESCAPE = "\x1b[2J"
BACKWARDS = "\u202e"
TITLE = "<svg onload=x>"
CALL = "<i>" + ESCAPE

WORDS = [
    ("assistanttip_suggestion", "assistant" + TITLE),
    (
        "Expands two tips for staying healthy at the same time, then sums them up.",
        f"{MARKUP}<script>alert(2)</script>{BACKWARDS}{ESCAPE}",
    ),
    ("\x00summaryTo ", f"\x00{CALL}To "),
    ("Here are two tips for staying healthy: 1. Balanced Diet. ", f"{MARKUP}</div>{BACKWARDS}{ESCAPE}"),
]


def make(component, to):
    """Writes the hostile twin of the component to a file."""
    with open(component, "rb") as file:
        content = file.read()
    for word, by in WORDS:
        word, by = word.encode(), by.encode()
        assert len(by) <= len(word) and content.count(word) == 1, f"tip_suggestion has another text than {word}"
        content = content.replace(word, by.ljust(len(word)))
    with open(to, "wb") as file:
        file.write(content)
