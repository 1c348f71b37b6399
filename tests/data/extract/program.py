"""Module text."""
import os


# Adds.
@cached
def add(a, b):
    return a + b


class Stack(Base):
    """A stack."""

    def push(self, x):
        self.items.append(x)

    def pop(self):
        return self.items.pop()
