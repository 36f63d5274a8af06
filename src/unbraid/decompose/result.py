"""What does a decomposition give? One object: importances, masked forward passes, a summary, the scorecard, and its own folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor

from unbraid.core.config import read_yaml
from unbraid.core.errors import UserError, unknown
from unbraid.core.metrics import read_metrics
from unbraid.core.seeds import Streams
from unbraid.core.storage import check_manifest, disk_errors, write_atomically, write_manifest, write_text
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.importance_function import ImportanceFunction
from unbraid.decompose.masks import Mask
from unbraid.decompose.model import Clean, DecomposedModel
from unbraid.decompose.step import importances_of
from unbraid.decompose.training import build
from unbraid.targets.data import Batch, move
from unbraid.targets.settings import target_settings
from unbraid.targets.target import Target
from unbraid.targets.toy import save_weights

if TYPE_CHECKING:
    from unbraid.decompose.scorecard import Scorecard
    from unbraid.drawing.plot_style import Plot, ThemeName

ALIVE_THRESHOLD = 0.1  # an importance above this counts as on
ALIVE_RATE = 1e-3  # a subcomponent that is on for at least this share of inputs is alive
MODEL_FILE, CONFIG_FILE, TARGET_FILE = "model.safetensors", "config.yaml", "target.safetensors"


@dataclass(frozen=True)
class Decomposition:
    """A target written as a sum of rank-one subcomponents, with the function that says which of them an input needs.

    Attributes:
        target: The model under study.
        config: The settings that made it.
        model: The target with every site decomposed.
        function: The importance function.
        step: How many steps it was trained for.
        metrics: The metrics that were logged, one mapping per logged step.
    """

    target: Target
    config: DecomposeConfig
    model: DecomposedModel
    function: ImportanceFunction
    step: int
    metrics: tuple[Mapping[str, float], ...] = ()

    @property
    def name(self) -> str:
        """What it is called: its target, and its seed."""
        return f"{self.target.name} seed {self.config.seed}"

    @property
    def device(self) -> torch.device:
        """Where the decomposition lives."""
        return next(self.model.parameters()).device

    def clean(self, batch: Batch) -> Clean:
        """Run the target's own pass on a batch."""
        return self.model.clean(move(batch, self.device))

    @torch.no_grad()
    def importance(self, batch: Batch) -> dict[str, Float[Tensor, "*lead C"]]:
        """Return how much each subcomponent is needed on each input, in [0, 1], per site: [batch, (pos,) C]."""
        return importances_of(self.model, self.function, self.clean(batch)).lower

    @torch.no_grad()
    def masked_forward(self, batch: Batch, masks: Mapping[str, Tensor | Mask], delta: float = 1.0) -> Tensor:
        """Return the model's output with chosen subcomponents ablated.

        Args:
            batch: The inputs.
            masks: Site → mask per subcomponent, [C] or [batch, (pos,) C]: 1 keeps, 0 ablates. A site left out is as in the target.
            delta: How much of Δ, what the subcomponents leave of each matrix, is kept at the masked sites. With masks of 1 and
                delta 1 the output is the target's own.

        Raises:
            UserError: A site is unknown or a mask has the wrong number of subcomponents.
        """
        clean = self.clean(batch)
        ready: dict[str, Mask] = {}
        for path, mask in masks.items():
            if path not in self.model.sites:
                raise unknown("site", path, self.model.sites)
            if isinstance(mask, Mask):
                ready[path] = mask
                continue
            C, lead = self.model.C[path], clean.sites[path].x.shape[:-1]
            if mask.shape[-1:] != (C,):
                raise UserError(f"The mask of {path!r} has shape {tuple(mask.shape)}.", f"Its last axis is the {C} subcomponents.")
            values = mask.to(self.device, torch.float32).expand(*lead, C)
            ready[path] = Mask(values, torch.full(lead, delta, device=self.device))
        return self.model.masked(clean, ready)

    def mean_importance(self, batches: int = 10) -> dict[str, Float[Tensor, " C"]]:
        """Return each subcomponent's importance averaged over fresh data, per site."""
        return self._mean_over_fresh(lambda g: g, batches)

    def scorecard(self) -> Scorecard:
        """Measure everything that says how far the result may be trusted; see `Scorecard`."""
        from unbraid.decompose.score import score

        return score(self)

    def plot_importance(self, theme: ThemeName = "light") -> Plot:
        """Show which subcomponents each feature needs, or each fresh input where no truth is known; see `plots.plot_importance`."""
        from unbraid.decompose import plots

        return plots.plot_importance(self, theme)

    def plot_pieces(self, theme: ThemeName = "light") -> Plot:
        """Show the cosine between planted pieces and alive subcomponents; see `plots.plot_pieces`."""
        from unbraid.decompose import plots

        return plots.plot_pieces(self, theme)

    def plot_directions(self, theme: ThemeName = "light") -> Plot:
        """Show planted and recovered directions in the plane; see `plots.plot_directions`."""
        from unbraid.decompose import plots

        return plots.plot_directions(self, theme)

    def plot_training(self, theme: ThemeName = "light") -> Plot:
        """Show the losses and L0 over the steps; see `plots.plot_training`."""
        from unbraid.decompose import plots

        return plots.plot_training(self, theme)

    def summary(self) -> Table:
        """Return one row per site: shapes, subcomponents, how many are alive, how many an input needs, what is left in Δ."""
        table = Table(title=f"{self.target.name}: {self.step} steps, seed {self.config.seed}")
        for name in ("site", "d_in → d_out", "C", "alive", "l0", "Δ share"):
            table.add_column(name, justify="left" if name == "site" else "right")
        for path, row in self.site_facts().items():
            shape = f"{row['d_in']} → {row['d_out']}"
            table.add_row(path, shape, str(row["C"]), str(row["alive"]), f"{row['l0']:.2f}", f"{row['delta_share']:.1e}")
        return table

    @torch.no_grad()
    def site_facts(self, batches: int = 10) -> dict[str, dict[str, Any]]:
        """Return per site: d_in, d_out, C, alive (importance above 0.1 on at least one input in a thousand), l0 (mean count above 0.1) and ‖Δ‖²/‖W‖²."""
        firing = self.firing_rates(batches)
        facts: dict[str, dict[str, Any]] = {}
        for path, site in self.model.sites.items():
            share = float(site.delta().square().sum() / site.weight.square().sum())
            d_in, d_out = site.weight.shape
            alive, l0 = int((firing[path] >= ALIVE_RATE).sum()), float(firing[path].sum())
            facts[path] = {"d_in": d_in, "d_out": d_out, "C": self.model.C[path], "alive": alive, "l0": l0, "delta_share": share}
        return facts

    def firing_rates(self, batches: int = 10) -> dict[str, Float[Tensor, " C"]]:
        """Return per site on what share of fresh inputs each subcomponent's importance is above 0.1."""
        return self._mean_over_fresh(lambda g: (g > ALIVE_THRESHOLD).float(), batches)

    @torch.no_grad()
    def _mean_over_fresh(self, of: Callable[[Tensor], Tensor], batches: int) -> dict[str, Float[Tensor, " C"]]:
        """Return the mean of something about each subcomponent's importances over fresh data, per site."""
        streams = Streams(self.config.seed, self.device)
        total: dict[str, Tensor] = {path: torch.zeros(C, device=self.device) for path, C in self.model.C.items()}
        for index in range(batches):
            batch = self.target.fresh.batch(index, self.config.evaluation.batch_size, streams["evaluation"])
            for path, g in self.importance(batch).items():
                total[path] += of(g.flatten(0, -2)).mean(0) / batches
        return total

    def alive(self, batches: int = 10) -> dict[str, Bool[Tensor, " C"]]:
        """Return per site which subcomponents are alive: on, on at least one fresh input in a thousand."""
        return {path: rates >= ALIVE_RATE for path, rates in self.firing_rates(batches).items()}

    def show(self) -> None:
        """Show the summary on the terminal or in the notebook."""
        Console().print(self.summary())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{path}</td><td>{row['d_in']} → {row['d_out']}</td><td>{row['C']}</td><td>{row['alive']}</td>"
            f"<td>{row['l0']:.2f}</td><td>{row['delta_share']:.1e}</td></tr>"
            for path, row in self.site_facts().items()
        )
        head = "".join(f"<th>{name}</th>" for name in ("site", "d_in → d_out", "C", "alive", "l0", "Δ share"))
        return f"<table><caption>{self.target.name}, {self.step} steps</caption><tr>{head}</tr>{rows}</table>"

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the product: `config.yaml`, `model.safetensors`, and a manifest that marks them as whole.

        Raises:
            UserError: The disk is full or the folder cannot be written.
        """
        folder = Path(folder)
        with disk_errors(folder, "Nothing that was there before is lost."):
            parts = {"model": self.model.state_dict(), "importance": self.function.state_dict()}
            tensors = {
                f"{part}:{name}": tensor.detach().cpu().contiguous() for part, state in parts.items() for name, tensor in state.items()
            }
            write_text(folder / CONFIG_FILE, self.config.to_yaml())
            write_atomically(folder / MODEL_FILE, lambda path: save_file(tensors, path, {"format": "unbraid decomposition 1"}))
            facts = {
                "step": self.step,
                "target": self.target.name,
                "fingerprint": self.target.fingerprint(),
                "sites": list(self.model.sites),
            }
            write_manifest(folder, [CONFIG_FILE, MODEL_FILE, *save_target(self.target, folder)], **facts)
        return folder

    @classmethod
    def from_pretrained(cls, folder: str | Path, target: Target | None = None) -> Decomposition:
        """Read a decomposition back.

        Args:
            folder: A run folder or what `save_pretrained` wrote.
            target: The model it was made from; not needed for a bundled toy.

        Raises:
            UserError: The folder is missing, unfinished or damaged, or belongs to another target.
        """
        folder = Path(folder)
        manifest = check_manifest(folder, "decomposition")
        config = DecomposeConfig.parse(read_yaml(folder / CONFIG_FILE), str(folder / CONFIG_FILE))
        if target is None:
            target = target_of(config, folder)
        if target.fingerprint() != manifest["fingerprint"]:
            raise UserError(
                f"{str(folder)!r} decomposes {manifest['target']!r} with other weights than this target's.",
                "Give the target that it was made from.",
            )
        model, function = build(target, config)
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "importance": {}}
        for key, tensor in load_file(folder / MODEL_FILE).items():
            part, _, name = key.partition(":")
            parts[part][name] = tensor
        model.load_state_dict(parts["model"])
        function.load_state_dict(parts["importance"])
        device = torch.device(config.device)
        return cls(
            target,
            config,
            model.to(device).eval(),
            function.to(device).eval(),
            int(manifest["step"]),
            tuple(read_metrics(folder / "metrics.jsonl")),
        )


def save_target(target: Target, folder: Path) -> list[str]:
    """Keep the weights of a target that settings can rebuild, so that its folder needs nothing else; return the names of the files."""
    if target.source is None or not target.keeps_weights:
        return []
    write_atomically(folder / TARGET_FILE, lambda path: save_weights(target.module, path))
    return [TARGET_FILE]


def target_of(config: DecomposeConfig, folder: Path) -> Target:
    """Rebuild the target that a run's settings name, with the weights that the run was made on.

    Raises:
        UserError: The run was made on a module given in Python.
    """
    if config.target is None:
        raise UserError(
            f"The run {str(folder)!r} was made on a model given in Python.",
            "Load it with unbraid.Decomposition.from_pretrained(folder, target=...).",
        )
    weights = folder / TARGET_FILE
    return target_settings(config.target, str(folder)).target(weights if weights.exists() else None)
