"""A test of the SDK over a host that is not there; `fake_host/README.md`."""

import asyncio
import gc
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "fake_host"), str(HERE.parent)]
sys.dont_write_bytecode = True

import componentize_py_async_support  # noqa: E402
import componentize_py_runtime  # noqa: E402
from sglhost import State, _host  # noqa: E402
from sglhost.program import execute  # noqa: E402
from wit_world.imports.lm import host  # noqa: E402


class TestCase(unittest.TestCase):
    """With a host of its own for each test, and nothing left of it after."""

    def setUp(self):
        # What earlier tests left in cycles goes now, and not in the middle of this one.
        gc.collect()
        _host.begin_run()
        host.begin()
        self.host = host
        self.state = State()

    def tearDown(self):
        self.state = None
        self.assertEqual(componentize_py_runtime.waitables, set(), "calls that nobody waited for to the end")
        self.assertEqual(componentize_py_runtime.results, {})

    def run_program(self, program, arguments="{}"):
        """A run as the component's export makes it."""

        async def run():
            componentize_py_async_support._future_state.set(componentize_py_async_support.FutureState())
            return await execute(program, arguments)

        return asyncio.run(run())

    def text(self):
        """What the conversation says so far."""
        return self.state.text()
