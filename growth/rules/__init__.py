"""One file per kind of module, each opening with its formula."""
