"""Models of images."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.own_styles.style import Style, floats, keywords, of

# A vision transformer with keyword arguments and no config.


class ViT(nn.Module):
    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        num_classes: int,
        dim: int,
        depth: int,
        heads: int,
        mlp_dim: int,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.patch = nn.Conv2d(channels, dim, patch_size, stride=patch_size)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embedding = nn.Parameter(torch.randn(1, (image_size // patch_size) ** 2 + 1, dim))
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(dim, eps=1e-6),
                    "qkv": nn.Linear(dim, 3 * dim),
                    "proj": nn.Linear(dim, dim),
                    "norm2": nn.LayerNorm(dim, eps=1e-6),
                    "fc1": nn.Linear(dim, mlp_dim),
                    "fc2": nn.Linear(mlp_dim, dim),
                }
            )
            for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, num_classes)

    def forward(self, img: Tensor) -> Tensor:
        x = self.patch(img).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embedding
        for block in self.blocks:
            part: Any = block
            b, n, c = x.shape
            qkv = part.qkv(part.norm1(x)).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
            x = x + part.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
            x = x + part.fc2(F.gelu(part.fc1(part.norm2(x))))
        out: Tensor = self.head(self.norm(x)[:, 0])
        return out


VIT = {"image_size": 12, "patch_size": 4, "num_classes": 7, "dim": 30, "depth": 2, "heads": 5, "mlp_dim": 44}


# A U-Net of images.


def conv_block(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, padding=1),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
        nn.Conv2d(out, out, 3, padding=1),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        c = config.base_channels
        self.down1, self.down2, self.mid = (
            conv_block(config.in_channels, c),
            conv_block(c, 2 * c),
            conv_block(2 * c, 4 * c),
        )
        self.pool = nn.MaxPool2d(2)
        self.up2, self.dec2 = nn.ConvTranspose2d(4 * c, 2 * c, 2, stride=2), conv_block(4 * c, 2 * c)
        self.up1, self.dec1 = nn.ConvTranspose2d(2 * c, c, 2, stride=2), conv_block(2 * c, c)
        self.out = nn.Conv2d(c, config.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        d1 = self.down1(x)
        d2 = self.down2(self.pool(d1))
        y = self.up2(self.mid(self.pool(d2)))
        y = self.dec2(torch.cat([y, d2], dim=1))
        y = self.dec1(torch.cat([self.up1(y), d1], dim=1))
        out: Tensor = self.out(y)
        return out


# MLP-Mixer.


class MixerBlock(nn.Module):
    def __init__(self, tokens: int, dim: int, tokens_dim: int, channels_dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.tokens = nn.Sequential(nn.Linear(tokens, tokens_dim), nn.GELU(), nn.Linear(tokens_dim, tokens))
        self.channels = nn.Sequential(nn.Linear(dim, channels_dim), nn.GELU(), nn.Linear(channels_dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.channels(self.norm2(x))
        return out


class Mixer(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        count = (config.image_size // config.patch_size) ** 2
        self.stem = nn.Conv2d(3, config.hidden_dim, config.patch_size, config.patch_size)
        self.blocks = nn.Sequential(
            *(
                MixerBlock(count, config.hidden_dim, config.tokens_mlp_dim, config.channels_mlp_dim)
                for _ in range(config.num_blocks)
            )
        )
        self.norm, self.head = nn.LayerNorm(config.hidden_dim), nn.Linear(config.hidden_dim, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.blocks(self.stem(x).flatten(2).transpose(1, 2))).mean(1))
        return out


class ConvNet(nn.Module):
    """Convolutions whose channels are a list."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        channels = [3, *config.channels]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels))
        self.head = nn.Linear(channels[-1], config.classes)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


STYLES: dict[str, Style] = {
    "ViT": Style(
        lambda: ViT(**VIT),
        lambda s: {"img": floats(2, 3, 12, 12, seed=s)},
        keywords(ViT, VIT, inputs=torch.randn(2, 3, 12, 12)),
        ("dim", "heads", "mlp_dim"),
        ("num_classes", "image_size"),
    ),
    "U-Net": Style(
        of(UNet, in_channels=3, out_channels=2, base_channels=6),
        lambda s: {"x": floats(2, 3, 8, 8, seed=s)},
        {"inputs": torch.randn(2, 3, 8, 8)},
        ("base_channels",),
        ("in_channels", "out_channels"),
    ),
    "MLP-Mixer": Style(
        of(
            Mixer,
            image_size=8,
            patch_size=4,
            hidden_dim=22,
            tokens_mlp_dim=14,
            channels_mlp_dim=34,
            num_blocks=2,
            num_classes=7,
        ),
        lambda s: {"x": floats(2, 3, 8, 8, seed=s)},
        {"inputs": lambda: torch.randn(2, 3, 8, 8)},
        ("hidden_dim", "tokens_mlp_dim", "channels_mlp_dim"),
        ("num_classes", "patch_size", "image_size"),
    ),
    "a list of channels": Style(
        of(ConvNet, channels=[8, 12], classes=4),
        lambda s: {"x": floats(2, 3, 6, 6, seed=s)},
        {"inputs": torch.randn(2, 3, 6, 6)},
        says="no field of its config is a width of this ConvNet: channels is a list, of which no entry can grow alone",
    ),
}
