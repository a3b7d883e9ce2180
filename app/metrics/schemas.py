"""What the routes of metrics give."""

from pydantic import BaseModel, ConfigDict


class JobMetricOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    step: int
    stage: str
    loss: float
    sparsity: float
    learning_rate: float
