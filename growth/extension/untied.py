"""A head with a matrix of its own, where it shared that of the embedding.

The head starts as a copy, so that every logit stays bit for bit. From then on the embedding only
writes the residual stream and the head only reads it, as in a model that was never tied: the final
norm has no factor to carry for the two of them, and noise may go into the head."""

from __future__ import annotations

import copy

from torch import nn
from transformers import PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.sections import joined, sections
from growth.architectures.sizes import value_at
from growth.errors import IllegalGrowthError
from growth.extension.extension import Extension, Shapes
from growth.extension.part import Part
from growth.hf.config_json import section_at
from growth.hf.configs import Config, config_to_build
from growth.hf.expected_tensors import expected_tensors, without_weights

_TIE = "tie_word_embeddings"


def with_own_head(
    config: Config, shapes: Shapes, architecture: Architecture, model_class: type[PreTrainedModel]
) -> Extension:
    """The extension by a matrix for each head that is tied to the embedding by the config.

    Args:
        config, shapes: of the model.
        architecture: the declaration at that config.
        model_class: its class.

    Raises:
        IllegalGrowthError: if nothing is tied, or the class ties it whatever the config says.
    """
    _, ties = expected_tensors(config, model_class)
    if not ties:
        raise IllegalGrowthError(f"no weights of this {model_class.__name__} are tied. Leave untie out.")
    untied = copy.deepcopy(dict(config))
    for section in sections(config.parsed):
        tied, path = getattr(value_at(config.parsed, section), _TIE, False), joined(section, _TIE)
        if tied and (not section or _TIE in section_at(untied, path)):
            section_at(untied, path)[_TIE] = False
    new = Config(untied)
    expected, left = expected_tensors(new, model_class)
    if not (released := [name for name in ties if name not in left]):
        raise IllegalGrowthError(
            f"{model_class.__name__} ties {', '.join(ties)} whatever its config says, so that a matrix of its own "
            "would be overwritten when it is loaded. Leave untie out."
        )
    model = without_weights(config_to_build(new), model_class)
    tables = {path for path, module in model.named_modules() if isinstance(module, nn.Embedding)}
    if read := [name for name in released if name.rpartition(".")[0] in tables]:
        raise IllegalGrowthError(
            f"the config of this {config.parsed.model_type} unties more than the head: {', '.join(read)} too, and "
            f"'{ties[read[0]]}' would be left with nothing that reads it. Leave untie out."
        )
    names = {architecture.canonical(name): name for name in shapes}
    parts = {name: Part(name) for name in shapes}
    for name in released:
        shared = {one: names.get(architecture.canonical(one)) for one in (ties[name], name)}
        source = next(found for found in shared.values() if found is not None)
        if expected[name] != tuple(shapes[source]):
            raise IllegalGrowthError(
                f"{model_class.__name__} builds {name} of its own as {list(expected[name])}, and the matrix that it "
                f"shares now is {list(shapes[source])}. Leave untie out."
            )
        # The file may hold the shared matrix under either name, or under both. A bias has one use, the head's.
        matrix = len(expected[name]) > 1
        parts |= {
            found or one: Part(source, new=matrix and one == name, uneven=matrix) for one, found in shared.items()
        }
    matrices = [name for name in released if len(expected[name]) > 1]
    idle = [ties[name] for name in released if name not in matrices]
    return Extension(
        config,
        new,
        shapes,
        parts,
        untied=True,
        notes=(
            f"{' and '.join(f'{name} starts as a copy of {ties[name]}' for name in matrices)}, trained apart from it "
            "from now on; an optimizer's moments of what was shared, which do not tell the two uses apart, go to both",
            *([f"the class no longer reads {', '.join(idle)} where the head is untied, but its copy"] if idle else []),
        ),
    )
