"""Drawn places: textures, and views of them through known homographies."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

WIDTH, HEIGHT = 240, 176


def texture(place: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A picture full of corners, uint8 [H,W,3], another one per place."""
    generator = np.random.default_rng(place)
    picture = np.full((height, width, 3), 128, np.uint8)
    for _ in range(220):
        x, y = int(generator.integers(width)), int(generator.integers(height))
        w, h = generator.integers(4, 30, 2)
        colour = generator.integers(0, 256, 3).tolist()
        cv2.rectangle(picture, (x, y), (x + int(w), y + int(h)), colour, -1)
    return cv2.GaussianBlur(picture, (3, 3), 0.7)


def homography(seed: int, strength: float = 0.1) -> np.ndarray:
    """Move the corners of a picture by up to `strength` of its size: float64 [3,3]."""
    corners = np.float32([[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]])
    moves = np.random.default_rng(seed).uniform(-strength, strength, (4, 2)) * [WIDTH, HEIGHT]
    return np.asarray(cv2.getPerspectiveTransform(corners, (corners + moves).astype(np.float32)))


def view(place: int, matrix: np.ndarray) -> np.ndarray:
    """The place seen through a homography, a little darker and noisy."""
    seen = cv2.warpPerspective(texture(place), matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    noise = np.random.default_rng(place).normal(0, 4, seen.shape)
    return np.clip(0.8 * seen + noise, 0, 255).astype(np.uint8)


def save(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path
