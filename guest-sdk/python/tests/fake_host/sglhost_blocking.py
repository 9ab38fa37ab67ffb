"""See README.md."""

import componentize_py_runtime

told = set()


def wait(number):
    """First that a call has started, then that it has returned, as the component model may."""
    (waitable,) = componentize_py_runtime.sets[number]
    if waitable not in told:
        told.add(waitable)
        return 1, waitable, 1
    return 1, waitable, 2
