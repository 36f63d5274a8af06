"""What does the network look for in an activation? The read directions of subcomponents, or of planted pieces, at the sites that read it.

A site counts where its input is the activation itself or what a norm made of the stream, up to the end of the next block. That is found by
running the model and comparing tensors, so that the output of attention, which is just as wide, is not taken for the stream. Where a norm
stands between, each direction is scaled by the norm's weights: `v · (γ ⊙ x) = (γ ⊙ v) · x`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.decompose.load import load
from unbraid.stability.engine.places import INPUT, Place, blocks_of, kind_of
from unbraid.stability.radius.directions import FEATURES
from unbraid.targets.sites import Site
from unbraid.targets.target import Target, apply

COMPONENTS = "components:"


def read_directions(name: str, target: Target, place: Place, prompt: Shaped[Tensor, " pos"]) -> Float[Tensor, "n d"]:
    """Return the directions of "features" (planted, toys only) or "components:RUN" (alive subcomponents of a decomposition).

    Args:
        name: Which.
        target: The model.
        place: Where activations are moved.
        prompt: Any input, to run the model once.

    Raises:
        UserError: There is no planted truth, the decomposition is of another model, or none of its sites reads what is moved.
    """
    if name == FEATURES:
        if target.truth is None:
            raise UserError(f"Nothing is planted in {target.name!r}.", "Leave out the directions 'features', or name a toy.")
        readers = _readers(name, target, target.sites, place, prompt)
        columns = {path: site.V for path, site in target.truth.sites.items()}
    else:
        decomposition = load(name.removeprefix(COMPONENTS))
        if decomposition.target.fingerprint() != target.fingerprint():
            raise UserError(
                f"{name!r} is of {decomposition.target.name!r}, whose weights are not those of {target.name!r}.",
                "Name the model that was decomposed, or a decomposition of this one.",
            )
        readers = _readers(name, target, decomposition.target.sites, place, prompt)
        alive = decomposition.alive()
        columns = {path: decomposition.model.sites[path].factors.views()[0][:, alive[path]].detach() for path in readers}
    found = [(columns[path] if gains is None else gains[:, None] * columns[path]).T for path, gains in readers.items() if path in columns]
    directions = torch.cat(found).to(torch.float32) if found else torch.zeros(0, 1)
    directions = directions[directions.norm(dim=1) > 0]
    if not len(directions):
        raise UserError(f"Nothing of {name!r} is alive where the stream is read after {place}.", "Leave these directions out.")
    return directions


def _readers(
    name: str, target: Target, sites: tuple[Site, ...], place: Place, prompt: Shaped[Tensor, " pos"]
) -> Mapping[str, Float[Tensor, " d"] | None]:
    found = stream_readers(target.module, sites, place, prompt)
    if not found:
        widths = ", ".join(f"{site.path} ({site.d_in})" for site in sites[:6])
        raise UserError(
            f"No site of {name!r} reads what is moved at {place}. Sites, and the widths that they read: {widths}.",
            "Choose the place before one of them with --site, or other directions.",
        )
    return found


def stream_readers(
    module: nn.Module, sites: tuple[Site, ...], place: Place, prompt: Shaped[Tensor, " pos"]
) -> Mapping[str, Float[Tensor, " d"] | None]:
    """Return the sites that read the stream from a place to the end of the next block, each with the weights of the norm before it.

    Args:
        module: The model.
        sites: The sites to choose from.
        place: Where the stream is exchanged.
        prompt: Any input.
    """
    watch = _Watch(module, place)
    batch = prompt[None]
    if place.path == INPUT:
        watch.begin(batch)
    handles = [child.register_forward_hook(watch.gave(path, child)) for path, child in module.named_modules() if path]
    handles += [module.get_submodule(site.module_path).register_forward_pre_hook(watch.reads(site.path)) for site in sites]
    try:
        with torch.no_grad():
            apply(module, batch)
    finally:
        for handle in handles:
            handle.remove()
    return watch.found


class _Watch:
    """What is seen of one forward pass: the tensors that are the stream or a norm of it, and which sites are given one of them."""

    def __init__(self, module: nn.Module, place: Place) -> None:
        blocks = blocks_of(module)
        self.place = place.path
        self.last = blocks[place.block + 1 : place.block + 2] if place.block is not None else blocks[:1]
        self.watching = False
        self.found: dict[str, Tensor | None] = {}
        self._streams: dict[
            int, tuple[Tensor, Tensor | None]
        ] = {}  # with the tensors, since the number of a freed one may be given out again

    def begin(self, stream: Tensor) -> None:
        """Take a tensor for the stream, from here on."""
        self.watching = True
        self._streams[id(stream)] = (stream, None)

    def gave(self, path: str, child: nn.Module) -> Callable[..., None]:
        """Return the hook that looks at what a module gave."""

        def hook(_module: nn.Module, _args: object, output: object) -> None:
            value = output[0] if isinstance(output, tuple) else output
            if not isinstance(value, Tensor):
                return
            if path == self.place:
                self.begin(value)
            elif path in self.last:
                self.watching = False
            elif self.watching and kind_of(path.rpartition(".")[2], child) == "norm":
                weight = getattr(child, "weight", None)
                self._streams[id(value)] = (value, weight.detach() if isinstance(weight, Tensor) else None)

        return hook

    def reads(self, site: str) -> Callable[..., None]:
        """Return the hook that looks at what a site is given."""

        def hook(_module: nn.Module, args: tuple[object, ...]) -> None:
            if self.watching and args and id(args[0]) in self._streams:
                self.found[site] = self._streams[id(args[0])][1]

        return hook
