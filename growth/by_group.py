"""Where schedulers that were pickled by version 0.1 say their classes live. New code imports
`growth.training`."""

from growth.training.lr_schedulers_by_group import CosineByGroup, PlateauByGroup, RestartsByGroup

__all__ = ["CosineByGroup", "PlateauByGroup", "RestartsByGroup"]
