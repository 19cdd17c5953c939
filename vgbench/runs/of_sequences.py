"""What networks of sequences do not go together with, said before anything is read."""

from __future__ import annotations

from vgbench.errors import UserError
from vgbench.runs.settings import EvalSettings, Settings, TrainSettings


def check_sequences(settings: Settings) -> None:
    """Refuse what is of single images beside `--seq_aggregation`.

    Raises:
        UserError: another way to train than triplets, a search that uses the frames around an image, photographs.
    """
    name = settings.network.seq_aggregation
    if name is None:
        return
    ours = f"--seq_aggregation {name} describes whole sequences"
    if settings.rerank.sequence is not None:
        raise UserError(
            f"--sequence {settings.rerank.sequence}: finds images with the frames around them, {ours}. Expected one of "
            "the two"
        )
    if isinstance(settings, EvalSettings) and settings.photos.no_labels:
        raise UserError(f"--no_labels: photographs are no sequences, {ours}. Expected one of the two")
    if not isinstance(settings, TrainSettings):
        return
    mode = " ".join(settings.training.train_modes or (settings.training.train_mode,))
    if mode != "triplets":
        raise UserError(f"--train_mode {mode}: trains with images, {ours}. Expected --train_mode triplets")
    if len(settings.data.train_dataset_name or ()) > 1:
        raise UserError(f"--train_dataset_name: sequences are trained on one dataset, {ours}. Expected one name")
    if settings.domain.grl_folder is not None:
        raise UserError(f"--grl_folder: compares images, {ours}. Expected one of the two")
    if settings.augmentation.translated_folder is not None:
        raise UserError(f"--translated_folder: is of images, {ours}. Expected one of the two")
