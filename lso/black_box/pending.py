"""What a black-box search has under way: its asks, and the calls of each."""

from dataclasses import dataclass, field

from torch import Tensor

from lso.results.evaluation import DecodedCode
from lso.results.result import Evaluation


@dataclass(slots=True, eq=False)
class PendingBatch:
    """An ask whose calls are not all finished.

    Args:
        number: of the ask.
        first: number of its first call.
        z: ``(n, d)`` what was proposed.
        records: of the calls that are finished, by number.
        alone: whether the score is given its data one by one.
    """

    number: int
    first: int
    z: Tensor
    records: dict[int, Evaluation] = field(default_factory=dict)
    alone: bool = False

    def code(self, call: int) -> Tensor:
        """The code of a call."""
        return self.z[call - self.first]

    @property
    def missing(self) -> int:
        """Calls not finished."""
        return len(self.z) - len(self.records)


@dataclass(frozen=True, slots=True, eq=False)
class PendingEvaluation:
    """A call: its code, decoded."""

    number: int
    batch: PendingBatch
    end: DecodedCode
    key: str

    @property
    def z(self) -> Tensor:
        return self.batch.code(self.number)
