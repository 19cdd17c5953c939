"""A network with everything between images and their distances, tested by one rank or by several."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from vgbench import parallel
from vgbench.data.options import DataOptions
from vgbench.data.protocol import Split
from vgbench.data.sequences import SequenceRules
from vgbench.models.network import Network
from vgbench.retrieval.adaptive.gate import Gate
from vgbench.retrieval.adaptive.stage import Reranking
from vgbench.retrieval.evaluation import Evaluation, checked, evaluate
from vgbench.retrieval.options import EvalOptions
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runtime import Inference, Runtime


@dataclass(frozen=True)
class Pipeline:
    """How a network's predictions are made.

    Attributes:
        gate: says which queries are re-ranked; None: all.
        rules: how images are cut into sequences for a network of those, wherever a split is read.
    """

    network: Network
    data: DataOptions
    evaluation: EvalOptions
    reranking: RerankOptions
    runtime: Runtime
    gate: Gate | None = None
    rules: SequenceRules | None = None

    def evaluate(self, split: Split, folder: Path) -> Evaluation:
        """Test a split, with descriptors in `folder`; returns the same on every rank, raises as `evaluate` does.

        Descriptors and exact search are shared out. Reduced or coded descriptors, approximate search and re-ranking
        are rank 0's alone, on the descriptors that all have made.
        """
        if parallel.world() == 1:
            return self._run(split, folder)
        exact = self.evaluation.searching_all()
        if self.evaluation == exact and not self.reranking.is_used:
            return self._run(split, folder)
        plain = dataclasses.replace(self, evaluation=exact, reranking=RerankOptions(), gate=None)
        described = plain._run(split, folder)
        found = parallel.on_main(lambda: self._run(split, folder))
        seconds = {stage: value for stage, value in described.seconds.items() if stage.startswith("extract")}
        return dataclasses.replace(found, seconds=found.seconds | seconds, images_per_s=described.images_per_s)

    def check(self, split: Split) -> None:
        """Refuse what `evaluate` can refuse before it describes an image, before a training say; raises UserError."""
        checked(self.network, split, self.evaluation, self._inference(), Reranking(self.reranking, self.gate))

    def _inference(self) -> Inference:
        data = self.data
        return Inference(data.resize, self.evaluation.infer_batch_size, data.workers, self.runtime)

    def _run(self, split: Split, folder: Path) -> Evaluation:
        thresholds = (self.data.val_positive_dist_threshold,)
        return evaluate(
            self.network, split, self.evaluation, self._inference(), folder, thresholds=thresholds,
            reranking=Reranking(self.reranking, self.gate),
        )  # fmt: skip
