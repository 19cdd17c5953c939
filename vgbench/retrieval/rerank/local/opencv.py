"""SIFT and ORB from OpenCV: no network and no download."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgbench.retrieval.rerank.local.features import LocalFeatures
from vgbench.runtime import Runtime


class _OpenCvExtractor:
    """Detects on gray images, one image a thread."""

    name: str
    dim: int
    binary: bool

    def __init__(self, keypoints: int, runtime: Runtime) -> None:
        self._keypoints = keypoints

    def __call__(self, images: Tensor) -> list[LocalFeatures]:
        pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return list(pool.map(self._features, pixels))

    def _features(self, image: NDArray[np.uint8]) -> LocalFeatures:
        # OpenCV's detectors hold what they work on, so each image has its own.
        points, descriptors = self._detector().detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
        size = (image.shape[1], image.shape[0])
        if not points:
            dtype = np.uint8 if self.binary else np.float32
            return LocalFeatures(np.empty((0, 2), np.float32), np.empty((0, self.dim), dtype), size)
        order = np.argsort([-point.response for point in points], kind="stable")[: self._keypoints]
        keypoints = np.array([point.pt for point in points], np.float32)[order]
        return LocalFeatures(keypoints, self._finished(descriptors[order]), size)

    def _detector(self) -> Any:
        raise NotImplementedError

    def _finished(self, descriptors: NDArray[Any]) -> NDArray[np.generic]:
        return descriptors


class SiftExtractor(_OpenCvExtractor):
    """SIFT (Lowe, 2004) as RootSIFT (Arandjelović and Zisserman, 2012): 128 float dimensions a keypoint.

    Args:
        keypoints: of an image at most.
        runtime: not used; it runs on the CPU.
    """

    name, dim, binary = "rootsift-1", 128, False

    def _detector(self) -> Any:
        return cv2.SIFT.create(nfeatures=self._keypoints)

    def _finished(self, descriptors: NDArray[Any]) -> NDArray[np.generic]:
        shares = descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-12)
        return np.asarray(np.sqrt(shares), dtype=np.float32)


class OrbExtractor(_OpenCvExtractor):
    """ORB (Rublee et al., 2011): 256 bits a keypoint.

    Args:
        keypoints: of an image at most.
        runtime: not used; it runs on the CPU.
    """

    name, dim, binary = "orb-1", 32, True

    def _detector(self) -> Any:
        return cv2.ORB.create(nfeatures=self._keypoints, fastThreshold=7)
