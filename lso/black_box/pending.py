"""The asks of a black-box search that are not finished, and their calls."""

from dataclasses import dataclass, field

from torch import Tensor

from lso.results.evaluation import DecodedCode
from lso.results.result import Evaluation


@dataclass(slots=True, eq=False)
class PendingBatch:
    """An ask whose calls are not all finished."""

    number: int  # of the ask
    first: int  # number of its first call
    z: Tensor  # (n, d) proposed codes
    records: dict[int, Evaluation] = field(default_factory=dict)  # number of a finished call -> its evaluation
    alone: bool = False  # whether the score is given its data one by one

    def code(self, call: int) -> Tensor:
        """The code of a call, by the call's number."""
        return self.z[call - self.first]

    @property
    def missing(self) -> int:
        """The number of calls that are not finished."""
        return len(self.z) - len(self.records)


@dataclass(frozen=True, slots=True, eq=False)
class PendingEvaluation:
    """A call that is not finished: its ask, its decoded object, and the key that identifies the object."""

    number: int
    batch: PendingBatch
    end: DecodedCode
    key: str

    @property
    def z(self) -> Tensor:
        return self.batch.code(self.number)
