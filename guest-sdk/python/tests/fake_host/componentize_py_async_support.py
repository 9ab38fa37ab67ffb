"""See README.md. The loop is asyncio's own; an event comes in its next round."""

import asyncio
from contextvars import ContextVar

import componentize_py_runtime


class Futures(dict):
    def __setitem__(self, waitable, future):
        super().__setitem__(waitable, future)
        asyncio.get_running_loop().call_soon(self.come, waitable)

    def come(self, waitable):
        if waitable in self:
            componentize_py_runtime.waitable_join(waitable, 0)
            componentize_py_runtime.subtask_drop(waitable)
            self.pop(waitable).set_result(2)


class FutureState:
    def __init__(self):
        self.waitable_set = None
        self.futures = Futures()
        self.handles = []


class Loop:
    exception = None


_future_state = ContextVar("_future_state")
_loop = Loop()


async def await_result(result):
    raise AssertionError("the SDK puts its own in this place")
