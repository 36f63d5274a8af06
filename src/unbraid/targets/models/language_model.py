"""How does a language model on disk become a target? Its weights, chosen matrices, and windows of text, some of it held out."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from unbraid.core.config import Config
from unbraid.core.errors import UserError
from unbraid.targets.models.load import load_model, load_tokenizer
from unbraid.targets.models.shipped import shipped_model, shipped_text, shipped_training
from unbraid.targets.target import Target
from unbraid.targets.text.windows import TextWindows

KIND = "language-model"


class LanguageModel(Config):
    """A causal language model, decomposed by what it predicts: KL between its next-token distributions, in nats per position."""

    kind: Literal["language-model"] = KIND
    """Which kind of target."""
    model: str
    """A folder, the name of a model that was pulled or that comes with the package, or a hub id in the local cache."""
    sites: tuple[str, ...] = Field(min_length=1)
    """Globs of the weight matrices to decompose, or of parts of fused ones (`*.c_attn:q`); `unbraid sites MODEL` lists them."""
    text: str
    """A folder of tokens, as `unbraid text build` makes one, or the name of a model that comes with the package, for its own text."""
    elsewhere: str | None = None
    """Tokens of other text, on which the subcomponents must change nothing; null for none. See the preset vpd-lm-targeted."""
    window: PositiveInt | None = None
    """Tokens per window; null for what the folder was built for."""

    recipe: ClassVar[str] = "vpd"

    def target(self, weights: Path | None = None) -> Target:
        """Load the model and open its text.

        Raises:
            UserError: The model or the text is not there, damaged, or of another tokenizer; a glob matches nothing.
        """
        if weights is not None:
            raise UserError("A language model's weights are those of its folder.", "Name the folder, and leave --weights out.")
        tokenizer = load_tokenizer(self.model)
        text = self.text if Path(self.text).is_dir() else shipped_text(self.text) or self.text
        data = TextWindows(text, tokenizer=tokenizer, window=self.window)
        elsewhere = None
        if self.elsewhere is not None:
            other = self.elsewhere if Path(self.elsewhere).is_dir() else shipped_text(self.elsewhere) or self.elsewhere
            elsewhere = TextWindows(other, tokenizer=tokenizer, window=data.window)
        module = load_model(self.model)
        _check_fits(data, module, self.model)
        return Target(
            module,
            sites=self.sites,
            data=data,
            held_out=TextWindows(text, tokenizer=tokenizer, window=self.window, split="held-out") if _has_held_out(data) else None,
            elsewhere=elsewhere,
            behaviour="kl",
            name=Path(self.model).name if shipped_model(self.model) is None else self.model.replace("/", "-"),
            source=self.tree(),
            training=shipped_training(self.model),
            keeps_weights=False,
        )


def _has_held_out(data: TextWindows) -> bool:
    """Whether anything is held out; a share that fills no window is an error of the reader's own."""
    return data.manifest.splits["held-out"].documents > 0


def _check_fits(data: TextWindows, module: object, name: str) -> None:
    """Raise a UserError when the model cannot read windows of this text."""
    config: object = getattr(module, "config", None)
    vocabulary, longest = getattr(config, "vocab_size", None), getattr(config, "max_position_embeddings", None)
    if isinstance(vocabulary, int) and data.vocabulary_size > vocabulary:
        raise UserError(
            f"The tokens have ids up to {data.vocabulary_size - 1}, and {name!r} knows {vocabulary}.",
            "Build the text with the model's tokenizer.",
        )
    if isinstance(longest, int) and data.window > longest:
        raise UserError(
            f"A window has {data.window} tokens, and {name!r} reads at most {longest}.", f"Read {longest} tokens at a time or fewer."
        )
