"""See ../README.md."""


class WitWorld:
    pass
