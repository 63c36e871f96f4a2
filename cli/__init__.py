"""The ``grow`` command: parse, call, show. No mathematics."""
