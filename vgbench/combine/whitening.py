"""Whitening that is learned from pairs of images of one place (Mikolajczyk and Matas, 2007; Radenovic et al., 2018).

What two images of one place differ in, light, season, traffic, does not say where they were taken. The covariance of
such differences,

    C = mean (q - p)(q - p)^T    over pairs of descriptors q, p,

tells these directions, and W = S^(-1/2) makes descriptors vary as little along them as along any other. There are
often more dimensions than pairs, so C is shrunk towards an even spread (Ledoit and Wolf, 2004):

    S = (1 - a) C + a tr(C)/D I.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vgbench.combine.options import LEAST_SHRINKAGE as LEAST_SHRINKAGE
from vgbench.errors import UserError

_ROUNDING = 1e-10  # of the largest eigenvalue: below it a direction is rounding


@dataclass(frozen=True)
class Whitening:
    """The linear map x -> W (x - mean), scaled so that what pairs do not differ in stays as it is.

    Attributes:
        mean: float64 [D], of the descriptors that it was fitted to.
        directions: float64 [R,D], orthonormal: those along which pairs differ.
        gains: float64 [R], above 0 up to 1: what a descriptor's part along each direction is multiplied with.
    """

    mean: Tensor
    directions: Tensor
    gains: Tensor

    def apply(self, descriptors: Tensor) -> Tensor:
        """Return the whitened descriptors float64 [B,D], not normalised."""
        centred = descriptors.to(self.mean) - self.mean
        along = centred @ self.directions.T
        return centred + (along * (self.gains - 1)) @ self.directions

    def layer(self, components: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the weight float32 [N,D] and the bias [N] of a linear layer that whitens.

        Args:
            components: float64 [N,D], orthonormal, what to project to after whitening; None: nothing, N is D.
        """
        if components is None:
            weight = (self.directions.T * (self.gains - 1)) @ self.directions
            weight.diagonal().add_(1)
        else:  # W is symmetric, so that its rows are whitened like descriptors, but for the mean
            weight = components + ((components @ self.directions.T) * (self.gains - 1)) @ self.directions
        return weight.float(), -(weight @ self.mean).float()


def check_shrinkage(value: float) -> None:
    """Raise UserError where it is out of range."""
    if not LEAST_SHRINKAGE <= value <= 1:
        raise UserError(f"--shrinkage {value:g}: out of range. Expected a number from {LEAST_SHRINKAGE:g} to 1")


def fit_whitening(descriptors: Tensor, pairs: Tensor, shrinkage: float) -> Whitening:
    """Learn a whitening, in float64.

    Args:
        descriptors: [M,D], L2-normalised.
        pairs: int64 [P,2], rows of descriptors of one place.
        shrinkage: a, from LEAST_SHRINKAGE (pairs alone) to 1 (nothing but the mean is taken away).

    Raises:
        UserError: all pairs are of equal descriptors, some are not finite, or the shrinkage is out of range.
    """
    check_shrinkage(shrinkage)
    if not bool(torch.isfinite(descriptors).all()):
        raise UserError("the network's descriptors are not all finite numbers. Expected a checkpoint of sound weights")
    descriptors = descriptors.double()
    differences = (descriptors[pairs[:, 0]] - descriptors[pairs[:, 1]]) / max(len(pairs), 1) ** 0.5
    directions, variances = _spectrum(differences)
    even = float(variances.sum()) / descriptors.shape[1]
    if even == 0:
        raise UserError(
            f"{len(pairs)} pairs of one place: their descriptors do not differ. Expected different images of the places"
        )
    # S^(-1/2) over what it is across all directions, (a tr(C)/D)^(-1/2): descriptors are normalised anyway.
    gains = (1 + (1 / shrinkage - 1) * variances / even) ** -0.5
    return Whitening(descriptors.mean(0), directions, gains)


def principal_components(whitened: Tensor, dim: int) -> Tensor:
    """Return the `dim` directions, orthonormal float64 [dim,D], in which descriptors [M,D] of mean 0 vary most.

    Raises:
        UserError: there are fewer.
    """
    directions, _ = _spectrum(whitened)
    if dim > len(directions):
        raise UserError(
            f"--dim {dim}: {len(whitened)} images span {len(directions)} dimensions. Expected at most as many; leave "
            "it out to keep all of the network's"
        )
    return directions[:dim]


def _spectrum(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvectors [R,D] and eigenvalues [R] above rounding of rows^T rows, largest first.

    By way of the smaller one of rows^T rows and rows rows^T, which have the same eigenvalues.
    """
    wide = len(rows) < rows.shape[1]
    values, vectors = torch.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    keep = torch.flip(torch.nonzero(values > _ROUNDING * values[-1].clamp(min=1e-30))[:, 0], [0])
    values, vectors = values[keep], vectors[:, keep]
    return ((vectors.T @ rows) / values[:, None].sqrt() if wide else vectors.T), values
