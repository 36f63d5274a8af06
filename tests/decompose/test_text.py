"""Does a run on text that was stopped end with the same bits as one that was not?"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import unbraid
from tests.cli.conftest import hashes
from tests.targets.text.conftest import EOS, byte_tokenizer
from unbraid.decompose.verb import Progress, Stopped
from unbraid.targets.text.build import TextBuild, build_text
from unbraid.targets.text.windows import TextWindows


class Bigram(nn.Module):
    """Next-token logits from one token."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 8)
        self.up, self.out = nn.Linear(8, 12), nn.Linear(12, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(torch.relu(self.up(self.embedding(tokens))))


def test_a_stopped_run_on_text_ends_as_an_unstopped_one(tmp_path: Path) -> None:
    texts = [f"Document {index} says {index * index}." for index in range(40)]
    build_text(texts, byte_tokenizer(), tmp_path / "tokens", TextBuild(window=8), eos=EOS)
    data = TextWindows(tmp_path / "tokens")
    target = unbraid.Target(Bigram(data.vocabulary_size), sites="up", data=data, behaviour="kl")
    # More than one epoch, stopped within the first.
    config = unbraid.preset("vpd", steps=10, batch_size=16, components=4, save_every_steps=4, log_every_steps=4, warmup={"steps": 2})
    assert config.steps * config.batch_size > data.count > 4 * config.batch_size

    def stop(progress: Progress) -> None:
        if progress.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    unbraid.decompose(target, config, folder=tmp_path / "whole")
    with pytest.raises(Stopped):
        unbraid.decompose(target, config, folder=tmp_path / "stopped", report=stop)
    unbraid.decompose(target, config, folder=tmp_path / "stopped", resume=True)
    assert hashes(tmp_path / "stopped")["model.safetensors"] == hashes(tmp_path / "whole")["model.safetensors"]
