"""What does a site's matrix multiply, and what does the importance function see of it? A linear map, a lookup, or patches of an image."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.decompose.masked_product import both_products
from unbraid.decompose.products import times
from unbraid.targets.matrices import scale_of


class Reading:
    """How a linear map uses a matrix: it multiplies what it is given. Other modules' ways are subclasses."""

    is_linear = True
    """Whether that is all it does."""

    def times(self, x: Tensor, M: Float[Tensor, "d_in n"]) -> Float[Tensor, "*lead n"]:
        """Return the product of what the module is given with a matrix, one row per position."""
        return times(x, M)

    def products(
        self, x: Tensor, V: Float[Tensor, "d_in C"], M: Float[Tensor, "d_in d_out"]
    ) -> tuple[Float[Tensor, "*lead C"], Float[Tensor, "*lead d_out"]]:
        """Return `x V` and `x M`, where M has no gradient."""
        return both_products(x, V, M)

    def written(self, y: Float[Tensor, "*lead d_out"]) -> Tensor:
        """Return the module's output from the product and its bias."""
        return y

    def seen(self, x: Tensor, dense: Float[Tensor, "*lead d_out"]) -> Float[Tensor, "*lead d_seen"]:
        """Return what the importance function sees, one row per position, from what the module is given and `x M`."""
        return x

    def width_seen(self, M: Float[Tensor, "d_in d_out"]) -> int:
        """Return the width of `seen`."""
        return M.shape[0]


class Lookup(Reading):
    """How an embedding uses its table M [vocabulary, d]: it looks up the rows of tokens, so `x V` is `V[token]`.

    The importance function sees the row `M[token]`, which tells tokens apart as the one-hot vector does, at width d in place of the
    vocabulary's: an MLP on one-hot vectors would have a row of weights for each token, and learn nothing about those that are rare.

    Args:
        scale: What the rows are multiplied by on their way out; None leaves them as they are.
    """

    is_linear = False

    def __init__(self, scale: float | None) -> None:
        self.scale = scale

    def times(self, x: Tensor, M: Float[Tensor, "d_in n"]) -> Float[Tensor, "*lead n"]:
        """Look the tokens' rows up."""
        return F.embedding(x, M)

    def products(
        self, x: Tensor, V: Float[Tensor, "d_in C"], M: Float[Tensor, "d_in d_out"]
    ) -> tuple[Float[Tensor, "*lead C"], Float[Tensor, "*lead d_out"]]:
        """Return the rows with both."""
        return self.times(x, V), self.times(x, M)

    def written(self, y: Float[Tensor, "*lead d_out"]) -> Tensor:
        """Scale the rows."""
        return y if self.scale is None else y * self.scale

    def seen(self, x: Tensor, dense: Float[Tensor, "*lead d_out"]) -> Float[Tensor, "*lead d_out"]:
        """Return a copy of the rows, since a model may add positions to them in place."""
        return dense.clone()

    def width_seen(self, M: Float[Tensor, "d_in d_out"]) -> int:
        """Return d."""
        return M.shape[1]


class Patches(Reading):
    """How a convolution uses its matrix: it multiplies the patch under each pixel of its output; positions are [batch, height, width].

    The importance function sees the patches themselves. The products are computed as convolutions, which never write the patches down.

    Args:
        module: The convolution.
    """

    is_linear = False

    def __init__(self, module: nn.Conv2d) -> None:
        self.channels, self.kernel = module.in_channels, tuple(module.kernel_size)
        self.stride, self.dilation, self.mode = tuple(module.stride), tuple(module.dilation), module.padding_mode
        self.padding = [side for axis in (1, 0) for side in _padding(module, axis)]  # left, right, top, bottom

    def _padded(self, x: Tensor) -> Tensor:
        if not any(self.padding):
            return x
        batched = x if x.dim() == 4 else x[None]  # other paddings than zeros want a batch
        padded = F.pad(batched, self.padding, mode="constant" if self.mode == "zeros" else self.mode)
        return padded if x.dim() == 4 else padded[0]

    def times(self, x: Tensor, M: Float[Tensor, "d_in n"]) -> Float[Tensor, "*lead n"]:
        """Convolve with the columns of M as kernels; channels come last."""
        kernels = M.T.unflatten(1, (self.channels, *self.kernel))
        return F.conv2d(self._padded(x), kernels, stride=self.stride, dilation=self.dilation).movedim(-3, -1)

    def products(
        self, x: Tensor, V: Float[Tensor, "d_in C"], M: Float[Tensor, "d_in d_out"]
    ) -> tuple[Float[Tensor, "*lead C"], Float[Tensor, "*lead d_out"]]:
        """Return the convolutions with both."""
        return self.times(x, V), self.times(x, M)

    def written(self, y: Float[Tensor, "*lead d_out"]) -> Tensor:
        """Put channels before pixels again."""
        return y.movedim(-1, -3)

    def seen(self, x: Tensor, dense: Float[Tensor, "*lead d_out"]) -> Float[Tensor, "*lead d_in"]:
        """Return the patches."""
        patches = F.unfold(self._padded(x), self.kernel, dilation=self.dilation, stride=self.stride)
        return patches.mT.unflatten(-2, dense.shape[-3:-1])


def _padding(module: nn.Conv2d, axis: int) -> tuple[int, int]:
    """Return how much is padded before and after along height (0) or width (1)."""
    if isinstance(module.padding, str):
        total = module.dilation[axis] * (module.kernel_size[axis] - 1) if module.padding == "same" else 0
        return total // 2, total - total // 2
    return int(module.padding[axis]), int(module.padding[axis])


def reading_of(module: nn.Module) -> Reading:
    """Return how a module uses its matrix."""
    if isinstance(module, nn.Conv2d):
        return Patches(module)
    return Lookup(scale_of(module)) if isinstance(module, nn.Embedding) else Reading()
