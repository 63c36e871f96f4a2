"""An alias of `growth.training.lr_schedulers_by_group`, so that saved schedulers keep loading.

``torch.save(scheduler)`` stores the class by its module path, and these classes were once here.
"""

from growth.training.lr_schedulers_by_group import CosineByGroup, PlateauByGroup, RestartsByGroup

__all__ = ["CosineByGroup", "PlateauByGroup", "RestartsByGroup"]
