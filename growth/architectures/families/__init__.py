"""The declared families, one file each. `growth.architectures.registry` finds every `Architecture`
that a file here binds to a public name."""
