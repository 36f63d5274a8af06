"""Does `unbraid estimate` say what a run takes? Its prediction beside the measured peak, each run in a process of its own.

The models are drawn at random from their configurations, so nothing has to be there; what is measured is how much the resident memory grew from just before the
model was made. Writes memory.json and the table in docs/cluster.md; some configurations only are printed and change no file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT, provenance, write_between
from unbraid.core.devices import keep_freed_memory, peak_memory_mb, set_waiting_policy, use_threads

# glibc then maps every larger block for itself, so that what is resident is what is alive.
OWN_BLOCKS = {"MALLOC_MMAP_THRESHOLD_": "65536"}
_LLAMA = {"num_attention_heads": 4, "num_key_value_heads": 2, "attn_implementation": "eager", "use_cache": False}
_MINIMALITY = {"coefficient": 1e-3}
_LANGUAGE = {
    "importance": {"kind": "shared-transformer", "d_model": 128, "layers": 2, "heads": 4},
    "losses": {
        "faithfulness": {"coefficient": 10.0, "relative": True},
        "stochastic": {"coefficient": 0.5, "routing": "subset"},
        "persistent-adversarial": {"coefficient": 0.5, "scope": "bsc"},
        "minimality": {"coefficient": 3e-4, "normalized": True, "frequency": {"weight": 0.3}},
    },
}

# No figure of them enters the prediction. The last three were added when the prediction was done.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "4 layers, d 256, all MLPs, adversary per position": {
        "model": ("llama", {"hidden_size": 256, "intermediate_size": 683, "num_hidden_layers": 4, "vocab_size": 2048, **_LLAMA}),
        "sites": "*.mlp.*",
        "window": 64,
        "settings": {
            "batch_size": 16,
            "components": 512,
            "importance": "layerwise-mlp",
            "losses": {
                "faithfulness": {"coefficient": 1e3},
                "stochastic": {"routing": "subset"},
                "persistent-adversarial": {"scope": "bsc"},
                "minimality": _MINIMALITY,
            },
        },
    },
    "6 layers, d 512, vocabulary 16,384, one block": {
        "model": ("llama", {"hidden_size": 512, "intermediate_size": 1365, "num_hidden_layers": 6, "vocab_size": 16384, **_LLAMA}),
        "sites": "*.layers.3.*proj",
        "window": 128,
        "settings": {
            "batch_size": 8,
            "components": 1024,
            "importance": {"kind": "global-mlp", "hidden": 256},
            "losses": {"stochastic": {}, "adversarial": {"scope": "c"}, "minimality": _MINIMALITY},
        },
    },
    "GPT-2 layout, 4 layers, d 384, all matrices but the last": {
        "model": (
            "gpt2",
            {"n_embd": 384, "n_head": 6, "n_layer": 4, "vocab_size": 4096, "attn_implementation": "eager", "use_cache": False},
        ),
        "sites": ["*.c_attn", "*.c_proj", "*.c_fc"],
        "window": 32,
        "settings": {
            "batch_size": 16,
            "components": 384,
            "importance": "layerwise-mlp",
            "losses": {"stochastic": {"routing": "layerwise"}, "minimality": _MINIMALITY},
        },
    },
    "8 layers, d 768, one matrix, few tokens": {
        "model": ("llama", {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8, "vocab_size": 8192, **_LLAMA}),
        "sites": "*.layers.4.mlp.down_proj",
        "window": 32,
        "settings": {
            "batch_size": 4,
            "components": 4096,
            "importance": {"kind": "layerwise-mlp", "hidden": 512},
            "losses": {"stochastic": {}, "persistent-adversarial": {"scope": "nsc"}, "minimality": _MINIMALITY},
        },
    },
    "2 layers, d 128, all matrices, C 128, many tokens": {
        "model": ("llama", {"hidden_size": 128, "intermediate_size": 341, "num_hidden_layers": 2, "vocab_size": 1000, **_LLAMA}),
        "sites": "*.layers.*proj",
        "window": 128,
        "settings": {
            "batch_size": 48,
            "components": 128,
            "importance": "global-mlp",
            "losses": {"stochastic": {"routing": "subset"}, "persistent-adversarial": {"scope": "sc"}, "minimality": _MINIMALITY},
        },
    },
    "GPT-2 layout, 6 layers, d 192, attention, long windows": {
        "model": (
            "gpt2",
            {"n_embd": 192, "n_head": 3, "n_layer": 6, "vocab_size": 6000, "attn_implementation": "eager", "use_cache": False},
        ),
        "sites": "*.attn.c_*",
        "window": 256,
        "settings": {
            "batch_size": 6,
            "components": 300,
            "importance": {"kind": "global-mlp", "hidden": 300},
            "losses": {
                "unmasked": {},
                "stochastic": {},
                "persistent-adversarial": {"scope": "bc", "ascent_steps": 1},
                "minimality": {"kind": "lp-minimality", "coefficient": 1e-3, "beta": 0.5},
            },
        },
    },
    "6 layers, d 192, all matrices, shared transformer, as vpd-lm-small": {
        "model": ("llama", {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6, "vocab_size": 3000, **_LLAMA}),
        "sites": "*.layers.*proj",
        "window": 64,
        "settings": {"batch_size": 8, "components": 512, **_LANGUAGE},
    },
    "the same, bf16, in 2 parts, passes run again": {
        "model": ("llama", {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6, "vocab_size": 3000, **_LLAMA}),
        "sites": "*.layers.*proj",
        "window": 64,
        "settings": {"batch_size": 16, "components": 512, **_LANGUAGE, "precision": "bf16", "accumulate": 2, "recompute": True},
    },
}


def main() -> None:
    """Measure every configuration and write the file and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int, default=list(range(len(CONFIGURATIONS))))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "memory.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "cluster.md", help="the file whose table is rewritten")
    parser.add_argument(
        "--only", choices=("predict", "measure"), help="one half of one configuration, printed (used by the command itself)"
    )
    arguments = parser.parse_args()
    names = [list(CONFIGURATIONS)[number] for number in arguments.numbers]
    if arguments.only:
        set_waiting_policy()
        keep_freed_memory()
        use_threads(1)
        print(json.dumps({"predict": predict, "measure": measure}[arguments.only](CONFIGURATIONS[names[0]])))
        return
    results = {name: compare(number, name) for number, name in zip(arguments.numbers, names, strict=True)}
    print(table(results))
    if len(results) == len(CONFIGURATIONS):
        tree = {**provenance(), "results": results}
        arguments.out.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
        source = f"Measured {tree['time']} at commit {(tree['commit'] or 'unknown')[:10]}, torch {tree['environment']['versions']['torch']}, CPU, one thread."
        write_between(arguments.page, "memory", f"{table(results)}\n\n{source}")


def compare(number: int, name: str) -> dict[str, Any]:
    """Predict one configuration and measure it twice, each in a process of its own: without holes in the heap, and as the command line runs it."""
    result: dict[str, Any] = {}
    for key, half, own in (("predicted", "predict", OWN_BLOCKS), ("measured", "measure", OWN_BLOCKS), ("with_holes", "measure", {})):
        command = [sys.executable, "-m", "benchmarks.memory", str(number), "--only", half]
        told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | own).stdout
        tree = json.loads(told)
        result[f"{key}_mb"] = tree.pop("mb")
        result |= {f"{key}_{name}": value for name, value in tree.items()}
    result["error"] = round(result["predicted_mb"] / result["measured_mb"] - 1, 3)
    print(f"{name}: {result}", file=sys.stderr)
    return result


def predict(configuration: dict[str, Any]) -> dict[str, Any]:
    """Say what a run would take, without making the model."""
    import torch

    from unbraid.decompose.config import DecomposeConfig
    from unbraid.decompose.on_paper import memory_on_paper
    from unbraid.targets.behaviour import behaviour_named
    from unbraid.targets.models.paper import PaperTokens, paper_sites

    with torch.device("meta"):
        module = model(configuration)
    sites = paper_sites(module, configuration["sites"])
    config = DecomposeConfig.parse(configuration["settings"])
    memory = memory_on_paper(module, sites, PaperTokens(configuration["window"]), behaviour_named("kl"), config)
    parts = {key: round(value / 1e6, 1) for key, value in vars(memory).items()}
    return {"mb": round(memory.peak / 1e6, 1), "parts_mb": parts}


def measure(configuration: dict[str, Any]) -> dict[str, float]:
    """Take a few steps with a saved state, and say how much the resident memory grew at most; a tiny model has gone the same way before."""
    family, sizes = configuration["model"]
    heads = "n_head" if family == "gpt2" else "num_attention_heads"
    tiny = {name: 16 if isinstance(size, int) and size > 16 else size for name, size in sizes.items()} | {heads: 2}
    run({**configuration, "model": (family, tiny), "settings": {**configuration["settings"], "components": 4, "batch_size": 2}})
    before = peak_memory_mb()
    run(configuration)
    return {"mb": round(peak_memory_mb() - before, 1), "before_mb": round(before, 1)}


def run(configuration: dict[str, Any]) -> None:
    """Make the model and decompose it for a few steps, in a folder."""
    import torch

    from unbraid.decompose.config import DecomposeConfig
    from unbraid.decompose.verb import decompose
    from unbraid.targets.target import Target

    torch.manual_seed(0)
    module = model(configuration).requires_grad_(False)
    vocabulary, window = module.config.vocab_size, configuration["window"]
    target = Target(
        module,
        sites=configuration["sites"],
        data=lambda size, generator: torch.randint(0, vocabulary, (size, window), generator=generator),
        behaviour="kl",
    )
    config = DecomposeConfig.parse(
        {**configuration["settings"], "steps": 3, "save_every_steps": 2, "log_every_steps": 1, "warmup": {"steps": 2}}
    )
    with tempfile.TemporaryDirectory() as folder:
        decompose(target, config, Path(folder) / "run")


def model(configuration: dict[str, Any]) -> Any:
    """Make a model from its configuration, in float32."""
    from transformers import AutoConfig, AutoModelForCausalLM

    family, sizes = configuration["model"]
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes)).float().eval()


def table(results: dict[str, Any]) -> str:
    """Write the table."""
    rows = ["| configuration | predicted, MB | measured, MB | error | with holes in the heap, MB |", "|---|---:|---:|---:|---:|"]
    for name, entry in results.items():
        numbers = [f"{entry[f'{key}_mb']:.0f}" for key in ("predicted", "measured", "with_holes")]
        rows.append(f"| {name} | {numbers[0]} | {numbers[1]} | {entry['error']:+.1%} | {numbers[2]} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
