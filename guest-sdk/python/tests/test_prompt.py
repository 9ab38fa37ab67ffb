"""What is appended, and how it is joined."""

from support import TestCase

from sglhost import (
    assistant,
    assistant_begin,
    assistant_end,
    gen,
    image,
    markup,
    role,
    role_end,
    system,
    text,
    tokens,
    user,
)


class Prompts(TestCase):
    def check(self, content, expect):
        self.state = type(self.state)()
        self.state += content
        self.assertEqual(self.text(), expect)

    def test_plus_joins_in_order_whatever_comes_first(self):
        self.check("a", "a")
        self.check("a" + gen("x") + "b", "a«x»b")
        self.check(text("a") + "b" + gen("x"), "ab«x»")
        self.check(gen("x") + "b" + gen("y"), "«x»b«y»")
        self.check("a" + (gen("x") + "b"), "a«x»b")
        self.check(user("hello") + assistant("a" + gen("x")), "<user>hello</><assistant>a«x»</>")
        self.check(assistant_begin() + "a" + assistant_end(), "<assistant>a</>")
        self.check(system() + role("tool", "42"), "<system></><tool>42</>")
        self.check(markup("<s>") + tokens([1, 2]) + image(b"1234"), "[markup <s>][tokens [1, 2]][image]")

    def test_an_image_may_be_base64(self):
        self.state += image("AAAAAA==") + image("data:image/png;base64,AAAAAAAA")
        self.assertEqual(self.host.log, ["decode 4 bytes", "decode 6 bytes"])
        with self.assertRaisesRegex(ValueError, "can open no files"):
            image("cat.png")

    def test_what_cannot_be_appended_is_told(self):
        def check(step, error, message):
            with self.assertRaisesRegex(error, message):
                step()

        def add(content):
            self.state += content

        check(lambda: add(5), TypeError, "of type int; its str.. can")
        check(lambda: add(None), TypeError, "of type NoneType$")
        check(lambda: add(self.state.copy()), TypeError, "a state cannot be appended")
        check(lambda: add("a\ud800"), UnicodeEncodeError, "surrogates")
        check(lambda: f"{gen('x')}", TypeError, "join it with \\+")
        check(lambda: "a" + gen("x") + 5, TypeError, "")
        check(lambda: user(5), TypeError, "of type int")
        check(lambda: add(tokens([-1])), Exception, "a token must be from 0 to 4294967295, and is -1")
        self.assertEqual(self.text(), "")

    def test_the_states_methods_append_once(self):
        self.state += self.state.user("a")
        self.state.assistant("b" + gen("x"))
        with self.state.role("tool"):
            self.state += "c"
        self.assertEqual(self.text(), "<user>a</><assistant>b«x»</><tool>c</>")

    def test_a_step_that_fails_raises_and_the_state_goes_on(self):
        with self.assertRaisesRegex(Exception, "^invalid: there is no role to end$"):
            self.state += role_end()
        self.state += "on"
        self.assertEqual(self.text(), "on")
        self.assertEqual(self.state.error().code, "invalid")
