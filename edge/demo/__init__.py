"""The shipped demo engine and its recipe (made by the commands in docs/demo.md)."""
