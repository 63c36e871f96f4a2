"""Extending a model at unchanged widths: more layers, a head of its own.

A growth has two steps. The model is extended, where the caller asks for that, and what comes out is
widened. An extended model computes the same function, has the model's class, and takes every
weight from the model: a copy of a tensor, or of entries of it, or values at which a new layer is
silent. So it is described by its config and by where each of its tensors comes from
(`growth.extension.extension.Extension`), and everything that reads the weights of a model can read
those of an extended one.

`growth.extension.extend.extend` makes an extension from what the caller asks for:
`growth.extension.layers` new layers, `growth.extension.untied` a head that is no longer tied."""
