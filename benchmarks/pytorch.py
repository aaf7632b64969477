"""A peer: the same networks, loss, and optimizer in PyTorch, written the usual way.

PyTorch's own initializers are used. `tests/experiments/models/test_resnet_reference.py` checks that
the ResNets compute the same function as ours.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

STAGE_SIZES = {
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
        self.head = nn.Linear(channels, num_classes)

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


def make_network(name: str) -> nn.Module:
    """Returns a network by its name in a config, at full width and for ten classes."""
    return {"nn2": nn2, "lenet4": lenet4}[name]() if name not in STAGE_SIZES else ResNet(name)


def train(network: nn.Module, optimizer: Any, images: Tensor, labels: Tensor) -> Tensor:
    """Makes one update on a batch, and returns the loss without waiting for it."""
    optimizer.zero_grad(set_to_none=True)
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
