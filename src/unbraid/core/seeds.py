"""Where does randomness come from? One named stream per purpose, so that drawing more for one never shifts another."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def stream_seed(seed: int, name: str) -> int:
    """Derive the seed of the stream `name` from the run's seed; different names give unrelated streams."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Streams:
    """Named torch generators of one run, which can be saved and restored exactly.

    Args:
        seed: The run's seed.
        device: Where the generators draw.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self.device = torch.device(device)
        self._generators: dict[str, torch.Generator] = {}

    def __getitem__(self, name: str) -> torch.Generator:
        if name not in self._generators:
            generator = torch.Generator(self.device)
            generator.manual_seed(stream_seed(self.seed, name))
            self._generators[name] = generator
        return self._generators[name]

    def state(self) -> dict[str, Tensor]:
        """Return the state of every stream that has been used, as uint8 tensors."""
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put every stream back to where `state()` found it."""
        for name, value in state.items():
            self[name].set_state(value.to(torch.uint8).cpu())


def random_words(count: int, generator: torch.Generator) -> Tensor:
    """Draw random 16-bit words on the CPU, four from each 64-bit draw: drawing, not arithmetic, is what masks of small models cost."""
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[:count]
