"""Training of any object: a copy of it, by its own `fit` or in the loop for torch modules."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from attrs import field, frozen

from superorm._io.progress import Progress
from superorm.components.fitting.samples import Samples
from superorm.components.predicting.calls import is_module
from superorm.components.trainer import Trainer
from superorm.exc import SuperormError, TrainingError

__all__ = ["Course", "fitted"]


@frozen
class Course:
    """What a training tells while it runs, and is told."""

    what: str
    """The model, in messages."""
    log: Callable[[str], None]
    progress: Progress | None = None
    stopped: Callable[[], bool] = field(default=lambda: False)
    """Whether it should end, because nobody waits for it any more."""


def fitted(object: Any, trainer: Trainer, samples: Samples, validation: Samples | None, course: Course) -> Any:
    """A trained copy of the object.

    Raises `TrainingError`, whose `__cause__` is what the object's own code raised.
    """
    try:
        own = copy.deepcopy(object)
        # what it is rated by stays as it is, whatever its fit() does to its inputs
        inputs = copy.copy(samples.inputs) if validation is None and trainer.metrics else samples.inputs
        if is_module(own) and not callable(getattr(own, "fit", None)):
            from superorm.components.fitting.modules import train

            train(own, trainer, samples, validation, course)
        elif samples.targets is None:
            own.fit(inputs)
        else:
            own.fit(inputs, samples.targets)
    except SuperormError:
        raise
    except Exception as error:
        raise TrainingError(
            f"{course.what} could not be trained on {len(samples):,} documents: {type(error).__name__}: {error}"
        ) from error
    if course.progress is not None and not is_module(own):
        course.progress(1, 1, f"training {course.what}")
    return own
