"""Classification losses over value bins, each with its own link from logits to probabilities.

A loss is only right with its own link: the value must be the *mean* of the return, because Bellman backups are
linear, so `probs` has to be mean-calibrated at the minimum of the loss. Every entry of LOSSES is put through the
population-bias test (tests/contract/test_losses.py); one that learns something else says so (`learns`), and a head
takes it with `allow_biased` alone.

proper: scores of a softmax. margin: margins and temperatures. ordinal: a classifier per edge. top_k: several bins right
at once. random_proper: another loss at every update. spherical, density_ratio: their own normalisation. cosine,
geometry: with a last layer of their own.
"""

from value_heads.losses.base import ClassificationLoss
from value_heads.losses.cosine import ElasticArc, ElasticCos
from value_heads.losses.density_ratio import PositiveUnlabeled
from value_heads.losses.geometry import AnchorFlow, HyperbolicCE
from value_heads.losses.margin import ALDRKL, LDRKL, MarginCE
from value_heads.losses.ordinal import ClassBalancedBCE, OrdinalBinaryCrossEntropy
from value_heads.losses.proper import Brier, Cramer, CrossEntropy, CrossEntropyCramer, Wasserstein
from value_heads.losses.random_proper import Ensemble
from value_heads.losses.spherical import ZLoss
from value_heads.losses.top_k import DecoupledSoftmax, SoftTopK

__all__ = ["LOSSES", "ClassificationLoss", "CrossEntropy", "OrdinalBinaryCrossEntropy"]

LOSSES: dict[str, type[ClassificationLoss]] = {
    "cross_entropy": CrossEntropy,
    "ordinal_bce": OrdinalBinaryCrossEntropy,
    "ldr_kl": LDRKL,
    "aldr_kl": ALDRKL,
    "margin_ce": MarginCE,
    "brier": Brier,
    "cramer": Cramer,
    "cross_entropy_cramer": CrossEntropyCramer,
    "wasserstein": Wasserstein,
    "soft_top_k": SoftTopK,
    "decoupled_softmax": DecoupledSoftmax,
    "class_balanced_bce": ClassBalancedBCE,
    "ensemble": Ensemble,
    "z_loss": ZLoss,
    "positive_unlabeled": PositiveUnlabeled,
    "elastic_cos": ElasticCos,
    "elastic_arc": ElasticArc,
    "hyperbolic_ce": HyperbolicCE,
    "anchor_flow": AnchorFlow,
}
