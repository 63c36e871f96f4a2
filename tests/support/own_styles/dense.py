"""Models of linear layers: autoencoders, two towers, an actor and a critic."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from support.own_styles.style import Style, floats, keywords, of, tokens

# Parametrized weights.


class Normed(nn.Module):
    """Weight norm by the old and the new way."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.inp = parametrizations.weight_norm(nn.Linear(config.n_inputs, config.hidden))
        self.mid = parametrizations.weight_norm(nn.Linear(config.hidden, config.mid))
        self.out = nn.Linear(config.mid, config.n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(torch.tanh(self.mid(torch.relu(self.inp(x)))))
        return out


class Spectral(Normed):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.mid = parametrizations.spectral_norm(nn.Linear(config.hidden, config.mid))


class Autoencoder(nn.Module):
    """The decoder's matrices are the encoder's, transposed."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.enc1, self.enc2 = nn.Linear(config.n_inputs, config.hidden), nn.Linear(config.hidden, config.code)
        self.b1, self.b2 = nn.Parameter(torch.zeros(config.hidden)), nn.Parameter(torch.zeros(config.n_inputs))

    def forward(self, x: Tensor) -> Tensor:
        code = torch.sigmoid(self.enc2(torch.sigmoid(self.enc1(x))))
        return F.linear(torch.sigmoid(F.linear(code, self.enc2.weight.t(), self.b1)), self.enc1.weight.t(), self.b2)


class Denoiser(nn.Module):
    """An MLP that is told the time of a diffusion."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.time = nn.Sequential(
            nn.Linear(config.time_dim, config.hidden), nn.SiLU(), nn.Linear(config.hidden, config.hidden)
        )
        self.inp = nn.Linear(config.data_dim, config.hidden)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(config.hidden),
                    "mod": nn.Linear(config.hidden, 2 * config.hidden),
                    "fc": nn.Linear(config.hidden, config.hidden),
                }
            )
            for _ in range(config.depth)
        )
        self.out = nn.Linear(config.hidden, config.data_dim)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        half = self.config.time_dim // 2
        rates = torch.exp(-math.log(10000) * torch.arange(half, device=x.device, dtype=x.dtype) / half)
        angles = t[:, None].to(x.dtype) * rates
        emb = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        h = self.inp(x)
        for block in self.blocks:
            part: Any = block
            scale, shift = part.mod(F.silu(emb)).chunk(2, -1)
            h = h + part.fc(F.silu(part.norm(h) * (1 + scale) + shift))
        out: Tensor = self.out(h)
        return out


class TwoTower(nn.Module):
    """Queries and items, compared by a cosine with a temperature."""

    def __init__(self, n_users: int, n_items: int, dim: int, user_hidden: int, item_hidden: int) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(n_users, user_hidden), nn.Embedding(n_items, item_hidden)
        self.user, self.item = nn.Linear(user_hidden, dim), nn.Linear(item_hidden, dim)
        self.logit_scale = nn.Parameter(torch.tensor(1.2))

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        u, v = self.user(torch.tanh(self.users(user))), self.item(torch.tanh(self.items(item)))
        return self.logit_scale.exp() * F.normalize(u, dim=-1) @ F.normalize(v, dim=-1).t()


TOWERS = {"n_users": 31, "n_items": 29, "dim": 12, "user_hidden": 18, "item_hidden": 22}


class Dotted(TwoTower):
    """The same by a plain product."""

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return (self.user(torch.tanh(self.users(user))) * self.item(torch.tanh(self.items(item)))).sum(-1)


class Bare(nn.Module):
    """No config at all: sizes are in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 18), nn.Linear(18, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(torch.relu(self.up(x)))
        return out


class ActorCritic(nn.Module):
    """Two heads, of actions and of a value."""

    def __init__(self, obs_dim: int, num_actions: int, hidden: int) -> None:
        super().__init__()
        self.obs_dim, self.num_actions, self.hidden = obs_dim, num_actions, hidden
        self.body = nn.Sequential(nn.Linear(obs_dim, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.actor, self.critic = nn.Linear(hidden, num_actions), nn.Linear(hidden, 1)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(obs)
        return self.actor(h), self.critic(h).squeeze(-1)


class Vae(nn.Module):
    """It returns its code beside what it makes of it."""

    def __init__(self, x_dim: int, h_dim: int, z_dim: int, always: bool = False) -> None:
        super().__init__()
        self.always = always
        self.enc, self.mu, self.log = nn.Linear(x_dim, h_dim), nn.Linear(h_dim, z_dim), nn.Linear(h_dim, z_dim)
        self.dec, self.out = nn.Linear(z_dim, h_dim), nn.Linear(h_dim, x_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu(self.enc(x))
        mu, log = self.mu(h), self.log(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * log) if self.training or self.always else mu
        return torch.sigmoid(self.out(F.relu(self.dec(z)))), mu, log


STYLES: dict[str, Style] = {
    "weight norm": Style(
        of(Normed, n_inputs=6, hidden=20, mid=14, n_outputs=3),
        lambda s: {"x": floats(9, 6, seed=s)},
        {},
        ("hidden", "mid"),
        ("n_inputs", "n_outputs"),
    ),
    "spectral norm": Style(
        of(Spectral, n_inputs=6, hidden=20, mid=14, n_outputs=3),
        lambda s: {"x": floats(9, 6, seed=s)},
        says="'mid' has a spectral norm: it divides a matrix by an estimate that goes on changing in training",
    ),
    "tied autoencoder": Style(
        of(Autoencoder, n_inputs=15, hidden=11, code=4),
        lambda s: {"x": floats(5, 15, seed=s)},
        says="'enc2.weight' is used in several places, as a tied matrix is, and no copies of its rows and columns",
    ),
    "diffusion": Style(
        of(Denoiser, data_dim=5, time_dim=8, hidden=26, depth=2),
        lambda s: {"x": floats(6, 5, seed=s), "t": tokens(50, 6, seed=s)},
        {"inputs": lambda c: {"x": torch.randn(6, c.data_dim), "t": torch.randint(50, (6,))}},
        ("hidden",),
        ("data_dim",),
    ),
    "two towers": Style(
        lambda: TwoTower(**TOWERS),
        lambda s: {"user": tokens(31, 6, seed=s), "item": tokens(29, 5, seed=s)},
        keywords(
            TwoTower, TOWERS, inputs=lambda c: (torch.randint(c["n_users"], (6,)), torch.randint(c["n_items"], (5,)))
        ),
        ("dim", "user_hidden", "item_hidden"),
        ("n_users", "n_items"),
    ),
    "a product": Style(
        lambda: Dotted(**TOWERS),
        lambda s: {"user": tokens(31, 6, seed=s), "item": tokens(29, 6, seed=s)},
        keywords(
            Dotted, TOWERS, inputs=lambda c: (torch.randint(c["n_users"], (6,)), torch.randint(c["n_items"], (6,)))
        ),
        ("dim", "user_hidden", "item_hidden"),
        ("n_users", "n_items"),
    ),
    "actor and critic": Style(
        lambda: ActorCritic(6, 4, 22),
        lambda s: {"obs": floats(5, 6, seed=s)},
        {"config": {"obs_dim": 6, "num_actions": 4, "hidden": 22}},
        ("hidden",),
        ("obs_dim", "num_actions"),
    ),
    "a code": Style(
        lambda: Vae(12, 20, 6),
        lambda s: {"x": floats(5, 12, seed=s)},
        {"config": {"x_dim": 12, "h_dim": 20, "z_dim": 6}},
        ("h_dim",),
        ("x_dim", "z_dim"),
    ),
    "random numbers": Style(
        lambda: Vae(12, 20, 6, always=True),
        lambda s: {"x": floats(5, 12, seed=s)},
        {"config": {"x_dim": 12, "h_dim": 20, "z_dim": 6, "always": True}},
        says="random numbers are drawn in eval mode, so that no two runs agree; draw them in training alone",
    ),
    "no config": Style(lambda: Bare(), lambda s: {"x": floats(5, 6, seed=s)}, says="Bare has no config"),
}
