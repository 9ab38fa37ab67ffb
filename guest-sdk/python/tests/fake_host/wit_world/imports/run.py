"""See ../../README.md."""

from .lm import host, slow


async def emit(channel, data):
    await slow(f"emit {channel} {data}", None)


def tokens_left():
    return 1000


def contexts_left():
    return 64 - host.contexts


def milliseconds_left():
    return 60_000
