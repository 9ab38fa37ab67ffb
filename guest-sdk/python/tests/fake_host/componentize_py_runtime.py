"""See README.md. Waitables of the component model: a slow call's, which its event ends."""

from itertools import count

numbers = count(1)
results = {}
"""What a promise's call gives back, by the promise."""
sets = {}
"""Waitables that are in a set, by the set."""
waitables = set()
"""Those whose call has not been dropped."""


def start(result):
    """Starts a slow call, and returns its waitable and its promise."""
    waitable, promise = next(numbers), next(numbers)
    waitables.add(waitable)
    results[promise] = result
    return waitable, promise


def waitable_set_new():
    number = next(numbers)
    sets[number] = set()
    return number


def waitable_set_drop(number):
    assert not sets.pop(number), "waitables are still in the set"


def waitable_join(waitable, number):
    for members in sets.values():
        members.discard(waitable)
    if number:
        sets[number].add(waitable)


def subtask_drop(waitable):
    waitables.remove(waitable)


def promise_get_result(event, promise):
    result = results.pop(promise)
    if isinstance(result, Exception):
        raise result
    return result
