"""The kinds of errors of specs and of jobs: those that a job can end with."""

from app.kinds.kind import Kind

# What is wrong with a spec, or with what it names: told at once where that can be, else by the job.
SPECS = {
    "invalid_spec": Kind(
        422,
        "The spec contradicts itself",
        "Its fields do not fit one another, or the model.",
        "Change the field that is named.",
        ends_jobs=True,
    ),
    "invalid_dataset": Kind(
        422,
        "The data cannot be used",
        "The reference leads nowhere, or a row, column or label is not what the task needs.",
        "Change the data, or the reference or columns that the spec names.",
        ends_jobs=True,
    ),
    "model_not_found": Kind(
        422,
        "There is no such model",
        "The reference leads to no model that this installation may read.",
        "README.md tells which references there are; the detail says what is wrong with this one.",
        ends_jobs=True,
    ),
    "model_gated": Kind(
        422,
        "The hub does not give the model out",
        "The model is private or gated, and not for who this installation's token belongs to.",
        "Have the operator ask for access and set PST_HUB_TOKEN, or take another model.",
        ends_jobs=True,
    ),
    "dataset_not_found": Kind(
        422,
        "There is no such dataset",
        "The hub has no dataset, revision or folder of this name, or the project no such upload.",
        "Check the reference; the detail says what was not found.",
        ends_jobs=True,
    ),
    "dataset_gated": Kind(
        422,
        "The hub does not give the dataset out",
        "The dataset is private or gated, and not for who this installation's token belongs to.",
        "Have the operator ask for access and set PST_HUB_TOKEN, or take another dataset.",
        ends_jobs=True,
    ),
    "hub_disabled": Kind(
        422,
        "This installation fetches from no hub",
        "The reference leads to a hub, and the operator has turned them off.",
        "Use pkg:NAME or file:PATH, or have the operator set PST_HUB_ENDPOINT.",
        ends_jobs=True,
    ),
    "hub_unavailable": Kind(
        422,
        "The hub did not give what it has",
        "It did not answer, or not with the bytes that it declares, however often it was asked.",
        "Retry the job when the hub is well again.",
        ends_jobs=True,
    ),
    "baseline_not_found": Kind(
        422,
        "There is no such baseline",
        "The job that the spec names as its baseline is not there, or has no dense model and will "
        "have none.",
        "Name a job of this project whose method is dense, or ask for baseline: train.",
        ends_jobs=True,
    ),
    "baseline_mismatch": Kind(
        422,
        "The baseline is of something else",
        "The job that the spec names as its baseline has another model, other data, another task, "
        "metric or seed, or cuts texts elsewhere: a difference from it would mean nothing.",
        "Name a dense job with the same of each, or ask for baseline: train.",
        ends_jobs=True,
    ),
    "unsupported_model": Kind(
        422,
        "The model cannot be compressed",
        "There is a model, but nothing in it that can be pruned, no safetensors or GGUF file, code "
        "of its own, or more bytes than are fetched.",
        "Take another one, or its safetensors version.",
        ends_jobs=True,
    ),
    "non_finite_loss": Kind(
        422,
        "The training diverged",
        "The loss became infinite or no number, at the step that is named.",
        "Lower the learning rates or max_gradient_norm.",
        ends_jobs=True,
    ),
    "sparsity_missed": Kind(
        422,
        "The result is not as sparse as was asked",
        "What was exported has another number of zeros than it should; it is not published.",
        "Report it to who runs this service: it is a fault.",
        ends_jobs=True,
    ),
    "not_compactable": Kind(
        422,
        "Nothing can be cut out",
        "The format compact needs heads or neurons that are wholly pruned, in every layer.",
        "Ask for a higher sparsity, or for packed.",
        ends_jobs=True,
    ),
    "not_installed": Kind(
        422,
        "A package is missing",
        "What was asked for needs a Python package that the worker does not have.",
        "Install it there, or leave out what needs it.",
        ends_jobs=True,
    ),
    "invalid_checkpoint": Kind(
        422,
        "The checkpoint is not what it should be",
        "Its bytes are damaged, another release's, or made for another base model.",
        "Get it again from where it was published.",
        ends_jobs=True,
    ),
}

# What only a job meets.
JOBS = {
    "out_of_memory": Kind(
        None,
        "The memory did not suffice",
        "Model, batch and activations did not fit into the device, or the process was killed for "
        "its memory.",
        "Lower batch_size or max_length, raise accumulation, or place the job on a larger device.",
        ends_jobs=True,
    ),
    "disk_full": Kind(
        None,
        "The disk is full",
        "The worker's disk, or the storage, took no more.",
        "Free space, then retry the job.",
        ends_jobs=True,
    ),
    "queue_timeout": Kind(
        None,
        "No worker took the job in time",
        "It waited longer than its limits.queue_seconds.",
        "Start workers that fit its placement, or raise the limit; then retry the job.",
        ends_jobs=True,
    ),
    "baseline_failed": Kind(
        None,
        "The baseline did not succeed",
        "The job waited for its baseline, which failed, was cancelled or was deleted.",
        "Retry the baseline's job, then this one; or ask for baseline: train.",
        ends_jobs=True,
    ),
    "timeout": Kind(
        None,
        "The job ran too long",
        "Its attempts together ran longer than its limits.wall_seconds.",
        "Raise the limit, or train fewer epochs.",
        ends_jobs=True,
    ),
    "no_progress": Kind(
        None,
        "The job stood still",
        "There was no step, phase or score for the job's limits.no_progress_seconds.",
        "See its logs; raise the limit where a step takes as long as that.",
        ends_jobs=True,
    ),
    "trainer_crashed": Kind(
        None,
        "The training process died",
        "It ended without saying why.",
        "See the job's logs; retry it.",
        ends_jobs=True,
    ),
    "worker_lost": Kind(
        None,
        "The job lost too many workers",
        "One worker after the other vanished before the job got any further.",
        "See the workers' logs; retry the job once they are well.",
        ends_jobs=True,
    ),
    "protocol": Kind(
        None,
        "The training process said what it may not",
        "What it reported, or left behind, is not what was asked for; all of it is thrown away.",
        "See the job's logs, and report it to who runs this service: it is a fault.",
        ends_jobs=True,
    ),
}
