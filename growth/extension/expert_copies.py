"""More experts, of which as many more are chosen for each token: the same function.

A router gives each of E experts a score and takes the k best, ``sum(p(e) F_e(x) for e in best k)``.
With m copies of every expert *and* of its row in the router, and m k of them chosen:

* the m copies of an expert have one score, so the best m k are all copies of the old best k. Equal
  rows give equal scores in any dtype, since the sums over features are the same sums; nothing is
  decided between copies, because all of them are in, or all are out;
* each copy has 1/m of the weight. A softmax over all experts divides among m times as many equal
  terms; a softmax over the chosen, or scores divided by their sum, likewise;
* so ``m (p/m) F(x) = p F(x)``.

With k as it was, other experts would be chosen: that is another model, and refused.

*Groups.* Where a router first chooses groups of experts (``n_group``, ``topk_group``), whole groups
are copied, so that a group has the score it had, and m times as many are chosen. Copies therefore
follow each other as whole sets: new expert i is a copy of i mod E.

*Finer experts.* An expert is a sum over its hidden features, so copies may share them out: each
copy takes F/s of the F features, in s different parts, and its output counts s times:

    sum over the copies of (p/m) s (its part of W2) a  =  p W2 a.

With s = m a token passes through as many features as before. The factor s is in W2; where it is no
power of two each weight there is rounded once.

*Training.* Copies with all features of an expert, and equal rows, get the same gradients, 1/m of
the old ones, as the copies of a doubled feature do: they stay equal. Noise parts them
(`growth.extension.split`). Parts of an expert differ, and so do the gradients of their rows, from
the first step on.

References:
    "Expert Upcycling" keeps k and calls the change small; Komatsuzaki et al. 2023, "Sparse
    Upcycling", arXiv 2212.05055, copies one feed-forward layer; Dai et al. 2024, "DeepSeekMoE",
    arXiv 2401.06066, section 3.1, for finer experts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from transformers import PreTrainedModel

from growth.algebra.axes import Axis
from growth.algebra.maps import Integers
from growth.algebra.roles import Reads, Role, Writes
from growth.architectures.architecture import Architecture
from growth.architectures.patterns import pattern_of
from growth.architectures.sizes import Sizes, value_at
from growth.errors import GrowthError, IllegalGrowthError
from growth.extension.coordinates import axis_of, coordinates, positions
from growth.extension.experts import Experts, counts_for, counts_shared, expert_size
from growth.extension.extension import Copies, Extension, Shapes
from growth.extension.part import Part
from growth.extension.request import CHOSEN, EXPERTS
from growth.extension.split import Apart
from growth.hf.config_json import edited
from growth.hf.configs import Config


def with_more_experts(
    config: Config,
    shapes: Shapes,
    architecture: Architecture,
    model_class: type[PreTrainedModel],
    found: Experts,
    copies: int,
    parts: int = 1,
    noise: float = 0.0,
    seed: int = 0,
) -> Extension:
    """The extension by copies of every expert.

    Args:
        config, shapes: of the model.
        architecture: the declaration at that config.
        model_class: its class.
        found: its experts.
        copies: how many there are to be of each.
        parts: in how many parts they share out its features; a divisor of the copies.
        noise, seed: RMS of the noise that parts copies with the same features, over that of the
            weights, and its seed.

    Raises:
        IllegalGrowthError: if the config cannot hold that.
    """
    old = architecture.read_sizes(config.parsed)
    size = expert_size(old)
    sigmoid = any(name.endswith("e_score_correction_bias") for name in found.fused)
    changes = dict(counts_for(found, config, copies, sigmoid))
    wanted = {**old, size: old[size] // parts}
    if parts > 1:
        changes[architecture.sizes[size].field] = wanted[size]
        changes |= dict(_shared(found, config, parts))
    try:
        new = edited(config, changes)
        read_back = architecture.read_sizes(new.parsed)
    except GrowthError as error:
        raise IllegalGrowthError(f"the config cannot hold {copies * found.count} experts: {error}") from error
    if read_back != wanted:
        other = next(name for name, value in read_back.items() if value != wanted[name])
        raise IllegalGrowthError(
            f"experts of size {wanted[size]} would change {other} from {old[other]} to {read_back[other]} as well. "
            "Leave expert_size out."
        )
    share = _Sharing(old, size, parts)
    alike = copies // parts if noise else 1
    all_of_them: Integers = np.tile(np.arange(found.count), copies)
    result: dict[str, Part] = {}
    for name in shapes:
        canonical = architecture.canonical(name)
        pattern = pattern_of(canonical)
        roles = architecture.roles(canonical, model_class.__name__)
        apart = Apart(noise, seed, canonical, alike) if alike > 1 and share.is_read(roles) else None
        if (which := found.lists.get(pattern)) is not None:
            for copy in range(copies):
                part = share.part(name, roles, [copy % parts])
                key = f"{canonical}/{copy % parts}"
                result[_in_full(name, canonical, which, copy * found.count)] = replace(
                    part,
                    new=copy >= parts,
                    gradient=(1.0 if part.gradient is None else part.gradient) / copies,
                    apart=apart and replace(apart, key=key, number=copy // parts),
                )
        elif pattern in found.fused:
            part = share.part(name, roles, np.repeat(np.arange(copies) % parts, found.count).tolist())
            take = list(part.take or (None,) * len(shapes[name]))
            for axis in found.fused[pattern]:
                take[axis] = all_of_them
            # a router's rows are told apart by what their parts of an expert add
            uneven = parts > 1 and not any(isinstance(role, Writes) for role in roles)
            result[name] = replace(part, take=tuple(take), apart=apart, uneven=uneven)
        else:
            result[name] = Part(name)
    return Extension(
        config,
        new,
        shapes,
        result,
        sizes={
            EXPERTS: (found.count, copies * found.count),
            CHOSEN: (found.per_token, copies * found.per_token),
            **({size: (old[size], wanted[size])} if parts > 1 else {}),
        },
        why={
            EXPERTS: f"{copies} copies of each",
            CHOSEN: "all copies of those chosen",
            **({size: f"each copy has 1/{parts} of the features"} if parts > 1 else {}),
        },
        copies=(
            Copies(
                tuple({_head(pattern, which) for pattern, which in found.lists.items()}), found.count, copies // parts
            ),
        ),
        noise=noise if copies > parts else 0.0,
        seed=seed,
        notes=tuple(_notes(found, copies, parts, noise)),
    )


def _shared(found: Experts, config: Config, parts: int) -> Iterator[tuple[str, int]]:
    """Config fields that count experts through which every token passes, in sizes of one: as many more,
    so that those stay as they are."""
    for name, value in value_at(config.parsed, found.section).to_dict().items():
        if counts_shared(name) and type(value) is int and value > 0:
            yield found.at(name), value * parts


def _head(pattern: str, which: int) -> str:
    """The name of a list of experts, numbers as ``*``.

    Args:
        pattern: of the name of a tensor of one expert.
        which: of the numbers in it is the expert's.

    Example:
        >>> _head("layers.*.mlp.experts.*.w1.weight", 1)
        'layers.*.mlp.experts'
    """
    parts = pattern.split(".")
    return ".".join(parts[: [index for index, part in enumerate(parts) if part == "*"][which]])


def _in_full(name: str, canonical: str, which: int, more: int) -> str:
    """A tensor's name for an expert whose number is higher. The name may have a prefix that the
    declaration leaves out."""
    before = _head(pattern_of(canonical), which)
    parts = canonical.split(".")
    start = ".".join(parts[: len(before.split("."))])
    number = parts[len(before.split("."))]
    head, _, tail = name.rpartition(f"{start}.{number}.")
    return f"{head}{start}.{int(number) + more}.{tail}"


@dataclass(frozen=True)
class _Sharing:
    """How the copies of an expert share out its features.

    Args:
        old: the sizes of the model.
        size: the name of the size of an expert.
        parts: in how many parts.
        known: what was worked out already.
    """

    old: Sizes
    size: str
    parts: int
    known: dict[tuple[Axis, int], Integers] = field(default_factory=dict)

    def is_read(self, roles: tuple[Role, ...]) -> bool:
        """Whether a tensor reads the features of an expert."""
        return any(
            isinstance(role, Reads) and any(space.size == self.size for space in role.spaces()) for role in roles
        )

    def part(self, name: str, roles: tuple[Role, ...], numbers: list[int]) -> Part:
        """The part of a tensor that some experts take.

        Args:
            name: of the tensor.
            roles: its roles.
            numbers: for each of the new experts that it is of, the number of its part.
        """
        take: list[Integers | None] = []
        gradient, scale = 1.0, 1.0
        for role in roles:
            axis = axis_of(role)
            if self.parts == 1 or axis is None or not any(space.size == self.size for space in axis.spaces()):
                take.append(None)
                continue
            rows = np.stack([self._features(axis, number) for number in numbers])
            take.append(rows[0] if len(numbers) == 1 else rows)
            if isinstance(role, Reads):
                scale = float(self.parts)
            else:
                gradient = float(self.parts)  # what it writes is read times that
        return Part(name, tuple(take) if any(one is not None for one in take) else (), gradient=gradient, scale=scale)

    def _features(self, axis: Axis, number: int) -> Integers:
        """Which entries of an axis a part has."""
        if (axis, number) not in self.known:
            each = self.old[self.size] // self.parts
            entries = coordinates(axis, {**self.old, self.size: each})
            for space in axis.spaces():
                if space.size == self.size:
                    entries[space] = np.where(entries[space] < 0, entries[space], entries[space] + number * each)
            self.known[axis, number] = positions(entries, coordinates(axis, self.old))
        return self.known[axis, number]


def _notes(found: Experts, copies: int, parts: int, noise: float) -> Iterator[str]:
    yield (
        f"each token takes {copies * found.per_token} experts instead of {found.per_token}"
        + (f", each with 1/{parts} of the features" if parts > 1 else "")
        + f": all {copies} copies of each, with 1/{copies} of its weight"
    )
    if parts & (parts - 1):
        yield (
            f"what an expert adds counts {parts} times in each of its parts, and {parts} is no power of two: the "
            "weights of its second matrix are rounded once"
        )
    if copies > parts and noise:
        yield (
            "noise in the second matrices of an expert's copies adds up to nothing over them, but for the rounding of "
            "each weight there to its dtype"
        )
    if copies > parts and not noise:
        yield (
            "identical copies of an expert never separate in training: their rows in the router are equal, and all "
            "are taken; noise, which is the default, makes what they add differ, and its sum stays"
        )
