"""A report made by hand, for tests of whoever passes one on."""

from pst_core.report import (
    Cost,
    CurvePoint,
    DataSummary,
    Estimate,
    Evaluation,
    Outcome,
    PrunedMatrix,
    Report,
    Scores,
    VarianceShares,
)
from pst_core.spec import CompressionSpec


def report(spec: CompressionSpec) -> Report:
    """Of a pair of classes and one pruned matrix, without a baseline."""
    accuracy = Estimate(value=1 / 3, low=0.0, high=2 / 3)
    test = Scores(primary="accuracy", metrics={"accuracy": accuracy}, rows=3, constant=2 / 3)
    outcome = Outcome(
        spec=spec,
        hyperparameters=spec.resolved_hyperparameters(),
        evaluation=Evaluation(validation=None, test=test),
        baseline=None,
        difference=None,
        sparsity=0.5,
        sparsity_overall=0.1,
        matrices=(PrunedMatrix(name="a.weight", shape=(2, 4), pruned=4, parts=(2,)),),
        skipped={"embeddings": "Embedding: not one of the blocks' linear layers"},
        score_variance=VarianceShares(weight=0.5, low_rank=0.25, row_column=0.25),
        parameters=40,
        trainable_parameters=7,
        refused={},
        bytes={"dense": 160, "packed": 90},
        data=DataSummary(sha256="ab", labels=("neg", "pos"), rows={"train": 2, "test": 3}),
        versions={"torch": "2"},
    )
    return Report(
        outcome=outcome,
        cost=Cost(steps=2, seconds=0.1, step_seconds=0.03, peak_memory_bytes=1),
        baseline_cost=None,
        curve=(CurvePoint(step=2, loss=0.7, sparsity=0.5, mask_churn=None),),
    )
