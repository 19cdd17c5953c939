"""What a user can set about adaptive re-ranking."""

from __future__ import annotations

from dataclasses import dataclass

from vgbench.errors import UserError, did_you_mean
from vgbench.options import DISTINCT, Options, arguments, at_least, option
from vgbench.retrieval.adaptive import ESTIMATORS, LEARNED


@dataclass(frozen=True)
class AdaptiveOptions(Options, topic="rerank"):
    """How sure the search is of each query, and which queries are re-ranked for it."""

    uncertainty: tuple[str, ...] = option(
        ("distance", "pa", "sue", "random"),
        "what says how sure the search is of each best match, the larger the surer: 1 - d1^2/2 (distance), 1 - d1/d2 "
        "(pa), 1 - SUE's spatial deviation / 500 m (sue), inliers of the first candidate by --local_... (inliers), a "
        "number between 0 and 1 drawn for each query, as a control (random); reported, and what --rerank_when learned "
        "learns from",
        registry="vgbench.retrieval.adaptive:ESTIMATORS",
        together=DISTINCT,
    )
    uncertainty_args: tuple[str, ...] | None = arguments(
        "uncertainty", "keywords of estimators, such as sue.slope=350; with several, <name>.<keyword>=<value>"
    )
    rerank_when: str | None = option(
        None,
        "re-rank only the queries of which this estimator of --uncertainty is not sure; learned: the probability that "
        "the best match is right, by logistic regression on all of them, learned on val",
        metavar="ESTIMATOR",
        needs="rerank",
        unset="re-rank all",
    )
    rerank_below: float | None = option(
        None,
        "re-rank the queries whose certainty by --rerank_when is below this",
        metavar="T",
        needs="rerank_when",
        unset="what gives the best R@1 on val, of several what re-ranks the fewest",
    )
    gate_dataset_name: str | None = option(
        None,
        "the dataset on whose val split --rerank_when is learned",
        metavar="NAME",
        needs="rerank_when",
        unset="--dataset_name",
    )
    gate_queries: int = option(
        1000, "queries of val, spread over it, that --rerank_when is learned from, at most", range=at_least(1),
        needs="rerank_when",
    )  # fmt: skip

    def check_together(self) -> None:
        """Raise UserError for a gate of an estimator that is not known."""
        known = (*ESTIMATORS, LEARNED)
        if self.rerank_when is not None and self.rerank_when not in (*known, *self.uncertainty):
            hint = did_you_mean(self.rerank_when, list(known))
            raise UserError(
                f"--rerank_when {self.rerank_when}: not known.{hint} Expected one of {', '.join(known)}; or your own, "
                "named in --uncertainty too"
            )
