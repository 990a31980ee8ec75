"""One small network, as users of each framework write it."""

from __future__ import annotations

from typing import Any


def in_torch() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[Any] = []
    for before, after, stride in ((3, 16, 1), (16, 32, 2)):
        layers += [nn.Conv2d(before, after, 3, stride, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def in_keras() -> Any:
    import keras

    keras.utils.set_random_seed(0)
    x = image = keras.Input((16, 16, 3), name="image")
    for width, stride in ((16, 1), (32, 2)):
        x = keras.layers.Conv2D(width, 3, strides=stride, padding="same")(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return keras.Model(image, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))


def in_flax() -> Any:
    from flax import nnx

    class Network(nnx.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self, rngs: Any) -> None:
            self.first = nnx.Conv(3, 16, (3, 3), rngs=rngs)
            self.first_norm = nnx.BatchNorm(16, rngs=rngs)
            self.second = nnx.Conv(16, 32, (3, 3), strides=(2, 2), rngs=rngs)
            self.second_norm = nnx.BatchNorm(32, rngs=rngs)
            self.head = nnx.Linear(32, 10, rngs=rngs)

        def __call__(self, image: Any) -> Any:
            x = nnx.relu(self.first_norm(self.first(image)))
            x = nnx.relu(self.second_norm(self.second(x)))
            return self.head(x.mean((1, 2)))

    return Network(nnx.Rngs(0))
