"""How many matches of two images agree on one geometry: MAGSAC++ (Barath et al., 2020), OpenCV's implementation."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.999
LEAST = {"homography": 4, "fundamental": 7}  # matches that determine the model


def inliers(
    query: NDArray[np.float32], candidate: NDArray[np.float32], model: str, threshold: float, iterations: int
) -> NDArray[np.bool_]:
    """Say which matches agree with the best model: bool [m], none where no model is found.

    As many as determine the model agree with it whatever they are, so they count as none.

    Args:
        query, candidate: float32 [m,2], matched points in pixels.
        model: "homography" or "fundamental".
        threshold: pixels.
        iterations: hypotheses at most.
    """
    none = np.zeros(len(query), np.bool_)
    if len(query) <= LEAST[model]:
        return none
    mask: Any  # None where there is no model, whatever the annotations say
    try:
        if model == "homography":
            _, mask = cv2.findHomography(
                query, candidate, cv2.USAC_MAGSAC, threshold, maxIters=iterations, confidence=CONFIDENCE
            )
        else:
            _, mask = cv2.findFundamentalMat(query, candidate, cv2.USAC_MAGSAC, threshold, CONFIDENCE, iterations)
    except cv2.error:  # all points on a line, or the same point many times
        return none
    if mask is None:
        return none
    good = np.asarray(mask).ravel().astype(np.bool_)
    return good if good.sum() > LEAST[model] else none
