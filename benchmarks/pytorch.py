"""A peer: the same networks, loss, and optimizer in PyTorch, written the usual way.

PyTorch's own initializers are used. `tests/experiments/models/test_resnet_reference.py` checks that
the ResNets compute the same function as ours.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

STAGE_SIZES = {
    "resnet10": (1, 1, 1, 1),
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
}


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Returns a convolution without bias, whose padding keeps the image's size at stride 1."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """A basic or bottleneck block (He et al. 2016, figure 5)."""

    def __init__(self, inputs: int, filters: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        if bottleneck:
            outputs = 4 * filters
            convs = [
                conv(inputs, filters, 1),
                conv(filters, filters, 3, stride),
                conv(filters, outputs, 1),
            ]
        else:
            outputs = filters
            convs = [conv(inputs, filters, 3, stride), conv(filters, filters, 3)]
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c.out_channels) for c in convs)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = conv(inputs, outputs, 1, stride)
            self.shortcut_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to images."""
        y = x
        for index, (convolve, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(convolve(torch.relu(y) if index else y))
        return torch.relu(
            y + (x if self.shortcut is None else self.shortcut_norm(self.shortcut(x)))
        )


class ResNet(nn.Module):
    """A residual network for small images or for ImageNet, with its classifier."""

    def __init__(
        self, name: str, *, width: int = 64, variant: str = "cifar", num_classes: int = 10
    ) -> None:
        super().__init__()
        bottleneck = name == "resnet50"
        self.stem = conv(3, width, 7, 2) if variant == "imagenet" else conv(3, width, 3)
        self.stem_norm = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if variant == "imagenet" else nn.Identity()
        self.blocks = nn.ModuleDict()
        channels = width
        for stage, num_blocks in enumerate(STAGE_SIZES[name]):
            for index in range(num_blocks):
                filters, stride = width * 2**stage, 2 if stage > 0 and index == 0 else 1
                self.blocks[f"stage{stage + 1}_block{index + 1}"] = Block(
                    channels, filters, stride, bottleneck=bottleneck
                )
                channels = 4 * filters if bottleneck else filters
        self.head: nn.Module = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [batch, channels, height, width] to logits."""
        x = self.pool(torch.relu(self.stem_norm(self.stem(x))))
        for block in self.blocks.values():
            x = block(x)
        return self.head(x.mean(dim=(2, 3)))


def lenet4() -> nn.Module:
    """Returns Caffe's LeNet: 20 and 50 filters of 5x5, and a hidden layer of 500."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


def nn2() -> nn.Module:
    """Returns a network with two hidden layers of 500, for images of 28x28 pixels."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 500),
        nn.ReLU(),
        nn.Linear(500, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


def vgg16() -> nn.Module:
    """Returns VGG-16 for images of 32x32 pixels, with two hidden layers of 512."""
    layers: list[nn.Module] = []
    channels = 3
    for number, filters in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(number):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
            channels = filters
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for _ in range(2):
        layers += [nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(512, 10))


class AttentionBeside(nn.Module):
    """The network of `configs/cifar10_cpu.py`: ResNet-10 of width 16 beside a transformer block."""

    def __init__(self, width: int = 64, heads: int = 4, mlp_width: int = 128) -> None:
        super().__init__()
        self.resnet = ResNet("resnet10", width=16)
        self.resnet.head = nn.Identity()
        self.patches = nn.Conv2d(3, width, 4, 4, bias=False)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 64, width))
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_width), nn.GELU("tanh"), nn.Linear(mlp_width, width)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(128 + width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [batch, channels, height, width] to logits."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        normed = self.attention_norm(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        tokens = tokens + self.mlp(self.mlp_norm(tokens))
        features = [self.resnet(x), self.norm(tokens).mean(1)]
        return self.head(torch.cat(features, 1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "nn2": nn2,
    "lenet4": lenet4,
    "vgg16": vgg16,
    "cifar10_cpu": AttentionBeside,
    **{name: partial(ResNet, name) for name in STAGE_SIZES},
}


def make_network(name: str) -> nn.Module:
    """Returns a network by its name, for ten classes; the residual networks have full width."""
    return NETWORKS[name]()


def train(
    network: Callable[[Tensor], Tensor],
    optimizer: Any,
    images: Tensor,
    labels: Tensor,
    *,
    bfloat16: bool = False,
) -> Tensor:
    """Makes one update on a batch, and returns the loss without waiting for it.

    Args:
      network: from images to logits.
      optimizer: its optimizer.
      images: a batch, in channels-last layout.
      labels: its labels.
      bfloat16: whether a CPU computes the network and the loss under autocast to bfloat16.
    """
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        loss = nn.functional.cross_entropy(network(images), labels)
    loss.backward()
    optimizer.step()
    return loss.detach()


def batches(images: Tensor, labels: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the batches of an epoch in random order, and drops the last incomplete one."""
    order = torch.randperm(len(images), device=images.device)
    for start in range(0, len(images) - size + 1, size):
        indices = order[start : start + size]
        yield images[indices], labels[indices]
