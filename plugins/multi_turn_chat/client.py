#!/usr/bin/env python3
"""multi_turn_chat, from the client's side: the same steps as src/lib.rs, each a completion call."""

import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "client"))
from sglhost_client import gen, main

MESSAGES = [
    "Hello! I would like to visit Paris in spring. What should I see first?",
    "I have only two days. Can you make a short plan?",
    "It may rain. What could I do inside?",
    "Thank you. Please sum up our plan in one sentence.",
]
INSTRUCTIONS = "You are a helpful travel guide. You answer in a few short sentences."


def multi_turn_chat(s, messages=MESSAGES, instructions=INSTRUCTIONS):
    """Holds a conversation: answers the user's messages one after the other."""
    s.system(instructions)
    replies = []
    for message in messages:
        s.user(message)
        s.assistant(gen("reply"))
        replies.append(s["reply"])
    return replies


if __name__ == "__main__":
    main(multi_turn_chat)
