"""How does a language model on disk become a frozen module, and its tokenizer? From safetensors alone, without the network or foreign code."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from safetensors import SafetensorError
from torch import nn

from unbraid.core.errors import UserError
from unbraid.targets.models.optional import require
from unbraid.targets.models.reference import check_config, check_weights, resolve

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OWN_CODE = "Load it yourself, and give the module to unbraid.Target."

Precision = Literal["float32", "bfloat16"]


def load_model(reference: str | Path, precision: Precision = "float32") -> nn.Module:
    """Load a causal language model, frozen, in evaluation mode, without a cache of keys and values.

    Attention is written out ("eager"), so that what runs on a laptop and on a GPU is the same arithmetic and nothing reads a weight
    besides calling its module.

    Args:
        reference: A folder, the name of a model that was pulled, or a hub id in the local cache.
        precision: What the weights are kept in; decomposing wants float32.

    Raises:
        UserError: The model is not on this machine, is quantised, has only pickles, needs code of its own, is damaged, or lacks weights.
    """
    require("transformers")
    folder = resolve(reference)
    check_config(folder)
    check_weights(folder)
    from transformers import AutoModelForCausalLM

    with _quiet(), _told(folder):
        found: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=precision,
            attn_implementation="eager",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are in the report, which is refused below
        )
    model, report = cast("tuple[Any, dict[str, Any]]", found)
    _check_complete(folder, report)
    model.config.use_cache = False
    return model.eval().requires_grad_(False)


def load_tokenizer(reference: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer that lies beside a model; see `load_model` for what a reference is.

    Raises:
        UserError: The model is not on this machine, or has no tokenizer.
    """
    require("transformers")
    folder = resolve(reference)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "tokenizer.model")):
        raise UserError(f"{str(folder)!r} has no tokenizer.", "Put the model's tokenizer.json and tokenizer_config.json into the folder.")
    from transformers import AutoTokenizer

    with _quiet(), _told(folder):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def model_on_paper(reference: str | Path) -> nn.Module:
    """Build a model without its weights: shapes, names and ties, in a moment and in no memory, however large it is.

    Raises:
        UserError: As for `load_model`, but no weights need to be there.
    """
    require("transformers")
    folder = resolve(reference)
    check_config(folder)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with _quiet(), _told(folder), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager", trust_remote_code=False).eval()


def _check_complete(folder: Path, report: Any) -> None:
    """Refuse a model of which a part was drawn at random, because the file did not have it."""
    for key, what in (("missing_keys", "lack"), ("mismatched_keys", "have another shape for")):
        names = sorted(name if isinstance(name, str) else str(name[0]) for name in report.get(key) or ())
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"The weights in {str(folder)!r} {what} {names[0]!r}{more}.", "Take the folder from a copy.")


@contextmanager
def _told(folder: Path) -> Generator[None]:
    """Turn what transformers says about a folder that it cannot read into one line."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        if "custom code" in reason:
            raise UserError(f"The model in {str(folder)!r} needs Python code of its own, which is not run.", _OWN_CODE) from None
        raise UserError(f"transformers cannot read {str(folder)!r}: {reason[:300]}", "Mend the folder, or take it from a copy.") from error


@contextmanager
def _quiet() -> Generator[None]:
    """Keep transformers' progress bars and reports off the terminal; what matters in them is told as an error."""
    from transformers.utils import logging as told

    bars, level = told.is_progress_bar_enabled(), told.get_verbosity()
    told.disable_progress_bar()
    told.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        told.set_verbosity(level)
        if bars:
            told.enable_progress_bar()
