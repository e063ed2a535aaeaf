"""The loop of weighted retraining: rounds that are complete on disk are read, the others are carried out."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lso.black_box.loop import make_score_executor, optimize
from lso.black_box.result import SearchResult
from lso.decoders.decoder import Decoder
from lso.reports.tables import percent
from lso.results.export import read_evaluations
from lso.results.result import Evaluation
from lso.space import LatentSpace
from lso.tasks.goals import Goal
from lso.tasks.retraining.drift import measure_codes, measure_drift
from lso.tasks.retraining.labelled_data import EMPTY, LabelledData, label_found_objects, load_labelled, load_or_make
from lso.tasks.retraining.labelling import SCORING_BATCH, LabellingStopped, label_data
from lso.tasks.retraining.labelling import WORK as SCORING
from lso.tasks.retraining.options import RetrainingConfig
from lso.tasks.retraining.records import RETRAINING, ROUND_NAME, ROUNDS, RetrainingResult, Round
from lso.tasks.retraining.weighting import draw_rows, effective_size, rank_weights
from lso.tasks.search.gradient import freeze_decoder
from lso.tasks.search.initial_data import encode_means, goal_objective, known_data
from lso.tasks.training.experiment import IN_MEMORY, resolve_device
from lso.vae.callbacks import Callback, Event, PartCallback, count_steps
from lso.vae.config.methods import method
from lso.vae.config.training import TrainConfig
from lso.vae.data.dataset import Dataset
from lso.vae.runs import Run
from lso.vae.training import loop as training
from lso.vae.utils.files import make_folder
from lso.vae.utils.random import generator, mix_seed
from lso.vae.utils.validation import format_duration, pluralize, short_number

DATA_FILE, ROUND_FILE, ROUNDS_FOLDER, FOUND_FILE = "data.safetensors", "round.json", "rounds", "found.safetensors"
ANCHORS = 500  # known data whose codes are followed
VALIDATION_DATA = 1000  # validation data of a retraining
RESUMABLE_STATUSES = ("stopped", "failed")  # a search that is gone on with
RAMP_PARAMETERS = ("anneal", "unit", "start", "cycles")


class RetrainingLoop:
    """Rounds done and to do.

    Args:
        run: training run that gives the model.
        goal: what is sought.
        config: how.
        folder: of the whole.
        data: of the run.
        device: of the model.
        callback: progress and stop requests.
        calls: executor, timeout, chunk and max_failures of the score's calls, see `lso.black_box.loop.optimize`.
    """

    def __init__(
        self,
        run: Run,
        goal: Goal,
        config: RetrainingConfig,
        folder: Path,
        data: Dataset,
        device: str,
        callback: Callback,
        calls: Mapping[str, Any],
    ) -> None:
        self.goal, self.config, self.folder, self.data, self.calls = goal, config, folder, data, calls
        self.first, self.run, self.device, self.callback = run, run, device, callback
        self.pool = self.known = self.found = EMPTY
        self.rounds: list[Round] = []
        self.parts: list[Sequence[Evaluation]] = []
        self.seconds = 0.0

    def _prepare(self) -> None:
        """Load or score the training data of retraining, and the data with known values for the optimizer."""
        count = self.config.data or len(self.data.train)
        rows = torch.randperm(len(self.data.train), generator=generator(self.config.seed, "retraining/data"))[:count]
        calls = {key: self.calls[key] for key in ("executor", "timeout", "chunk")}
        cheap = calls["executor"] is None and self.goal.on == "tensors"
        at_once = SCORING_BATCH if cheap else max(self.config.batch, calls["chunk"])
        with count_steps(self.callback, SCORING) as report:

            def tell(done: int, total: int) -> str | None:
                report(done, total)
                return self.callback.should_stop()

            self.pool = label_data(
                self.folder / DATA_FILE,
                self.data.train[rows],
                lambda: make_score_executor(
                    goal_objective(self.goal, Decoder(self.first.model())), **calls, batch=at_once
                ),
                self.goal.on,
                self.data.vocabulary,
                at_once=at_once,
                tell=tell,
                callback=self.callback,
                max_failures=self.calls["max_failures"],
            )
        self.known = load_or_make(self.folder / "known.safetensors", self._known)
        self.anchors = LabelledData(x=self.pool.x[:ANCHORS], value=self.pool.value[:ANCHORS]).seen()

    def _known(self) -> LabelledData:
        """What is told to the optimizer."""
        if not self.config.known or self.goal.known is None:
            return EMPTY
        x, value = known_data(self.first, self.goal, self.data.vocabulary, self.config.known, self.config.seed)
        return LabelledData(x=x, value=torch.tensor(value, dtype=torch.float64))

    # --- the loop -----------------------------------------------------------------------------------------------------

    def finish(self) -> RetrainingResult:
        """Carry out all rounds that are left, and give the result."""
        self.callback.on_start(Event(work=ROUNDS))
        sentence = ""
        try:
            result = self._finish()
            sentence = result.sentence
        finally:
            self.callback.on_end(Event(work=ROUNDS, done=len(self.rounds), text=sentence))
        return result

    def _finish(self) -> RetrainingResult:
        status = sentence = ""
        try:
            self._prepare()
        except LabellingStopped as cut:
            status, sentence = "stopped", str(cut)
        while not status:
            begun = self.rounds[-1].unique if self.rounds else 0
            status, sentence = self._round() or ("", "")
            if not status and self.rounds[-1].unique >= self.config.budget:
                status, sentence = "finished", f"{self._spent()} is spent, over {pluralize(len(self.rounds), 'round')}."
            elif not status and self.rounds[-1].unique == begun:  # further retrainings could repeat this for ever
                status, sentence = self.rounds[-1].status, f"Nothing new in a round. {self.rounds[-1].sentence}"
        return RetrainingResult(
            status=status,
            sentence=sentence,
            rounds=tuple(self.rounds),
            parts=tuple(map(tuple, self.parts)),
            data=self.pool if len(self.pool) else None,
            goal=self.goal,
            run=self.run,
            folder=self.folder,
            seconds=self.seconds,
        )

    def _spent(self) -> str:
        return f"The budget of {pluralize(self.config.budget, 'unique valid object')}"

    def _round(self) -> tuple[str, str] | None:
        """Carry out or read one round; gives status and sentence if it was interrupted."""
        number = len(self.rounds)
        place = self.folder / ROUNDS_FOLDER / f"{number:02d}"
        if (place / ROUND_FILE).is_file():
            self._read(place)
            return None
        trained = self._train(number, place / "train")
        self.seconds += float(trained.info["seconds"])
        if trained.info["status"] != "finished":
            return "stopped", f"Retraining {number}: {trained.info['sentence']}"
        decoder, space, _ = freeze_decoder(trained, self.device, bounds=self.config.bounds)
        accounts = self._accounts(decoder)
        result = self._search(number, place / "search", decoder, space)
        self.seconds += float(result.counters["seconds"])
        if result.status in RESUMABLE_STATUSES:
            self.parts.append(result.records)
            return result.status, result.sentence
        fresh = load_or_make(place / FOUND_FILE, lambda: label_found_objects(result, self.data.train, self._binary))
        self._take(trained, fresh, result.records)
        row = Round(
            number=number,
            drawn=int(trained.info["dataset"]["provenance"]["weighted"]["drawn"]),
            effective_size=float(trained.info["dataset"]["provenance"]["weighted"]["effective_size"]),
            **accounts,
            unique=(self.rounds[-1].unique if self.rounds else 0) + int(result.counters["unique"]),
            best=self._best(),
            status=result.status,
            sentence=result.sentence,
            training_seconds=float(trained.info["seconds"]),
            search_seconds=float(result.counters["seconds"]),
        )
        row.write(place / ROUND_FILE)
        self.rounds.append(row)
        self.callback.on_step(_round_event(row))
        return None

    def _read(self, place: Path) -> None:
        """Read a complete round from its files."""
        records = sorted(read_evaluations(place / "search"), key=lambda record: int(record.call or 0))
        self._take(Run(place / "train"), load_labelled(place / FOUND_FILE), records)
        row = Round.read(place / ROUND_FILE)
        self.seconds += row.training_seconds + row.search_seconds
        self.rounds.append(row)

    def _take(self, trained: Run, fresh: LabelledData, records: Sequence[Evaluation]) -> None:
        self.run = trained
        self.parts.append(records)
        if len(fresh):
            self.found = self.found + fresh if len(self.found) else fresh

    def _best(self) -> float | None:
        if not len(self.found):
            return None
        return float(self.found.value.max() if self.goal.maximize else self.found.value.min())

    @property
    def _binary(self) -> bool:
        return self.first.config.protocol.binarize != "none"

    # --- its parts ----------------------------------------------------------------------------------------------------

    def _train(self, number: int, path: Path) -> Run:
        """Retrain the model, or resume an interrupted retraining."""
        data = self._drawn(number)
        callback = PartCallback(self.callback, work=RETRAINING, name=ROUND_NAME.format(number))
        options: Any = {"device": resolve_device(self.device), "callback": callback}
        if path.is_dir():
            return training.resume_training(Run(path), data, **options)
        make_folder(path.parent)
        config = retraining_config(self.first.config, mix_seed(self.config.seed, "retraining", number))
        if self.config.learning_rate:
            protocol = dataclasses.replace(config.protocol, learning_rate=self.config.learning_rate)
            config = dataclasses.replace(config, protocol=protocol)
        return training.train_model(config, data, path, start=self.run.model(), **options)

    def _drawn(self, number: int) -> Dataset:
        """The data of a retraining: drawn with replacement from all that is known, by their weights."""
        everything = self.pool + self.found if len(self.found) else self.pool
        weight = rank_weights(everything.value, self.config.k, self.goal.maximize)
        epochs = self.config.epochs if number else self.config.first_epochs or self.config.epochs
        count = max(1, round(epochs * len(everything)))
        rows = draw_rows(weight, count, self.config.seed, number)
        told = {"k": repr(self.config.k), "known": len(everything), "drawn": count}
        told |= {"effective_size": effective_size(weight), "distinct": len(set(rows.tolist()))}
        return dataclasses.replace(
            self.data,
            train=everything.x[rows],
            validation=self.data.validation[:VALIDATION_DATA],
            labels={},
            provenance={**self.data.provenance, "weighted": told},
        )

    def _accounts(self, decoder: Decoder) -> dict[str, Any]:
        """Drift by the retraining, and how the new model stands to the anchors and the history."""
        before = encode_means(Decoder(self.run.model(str(resolve_device(self.device)))), self.anchors)
        after = encode_means(decoder, self.anchors)
        found: dict[str, Any] = {
            "drift": measure_drift(before, after),
            "anchors": measure_codes(decoder, self.anchors, after),
        }
        if not len(self.found):
            return found | {"history": None}
        seen = self.found.seen()
        return found | {"history": measure_codes(decoder, seen, encode_means(decoder, seen))}

    def _search(self, number: int, path: Path, decoder: Decoder, space: LatentSpace) -> SearchResult:
        """Carry out the search of a round, or resume an interrupted one."""
        data = [part for part in (self.known, self.found) if len(part)]
        codes = [encode_means(decoder, part.seen()) for part in data]
        known = (torch.cat(codes), torch.cat([part.value for part in data]).tolist()) if data else None
        objective = goal_objective(self.goal, decoder, space)
        scored = [
            record for part in self.parts for record in part if record.duplicate_of is None and record.outcome != "lost"
        ]
        left = self.config.budget - (self.rounds[-1].unique if self.rounds else 0)
        return optimize(
            objective,
            self.config.optimizer,
            min(self.config.every, left),
            self.config.batch,
            max_calls=self.config.max_calls,
            out=path,
            resume=path.is_dir(),
            known=known,
            scored=scored,
            seed=mix_seed(self.config.seed, "search", number),
            callback=PartCallback(self.callback, name=ROUND_NAME.format(number)),
            **self.calls,
            facts={"model": str((path.parent / "train").resolve())},
            **self.config.options,
        )


def _round_event(row: Round) -> Event:
    """What the callback is told of a finished round."""
    values = {
        "unique": row.unique,
        "best": row.best,
        "drift": row.drift.per_active,
        "active_units": row.anchors.active_units,
        "reproduced": row.anchors.reproduced,
        "found_reproduced": None if row.history is None else row.history.reproduced,
        "training_seconds": row.training_seconds,
        "search_seconds": row.search_seconds,
    }
    name = ROUND_NAME.format(row.number)
    best = "-" if row.best is None else short_number(row.best)
    found = "" if row.history is None else f", found {percent(row.history.reproduced)}"
    text = (
        f"{name}: {row.unique} unique  best {best}  drift {row.drift.per_active:.2g} "
        f"({row.anchors.active_units} active)  reproduced: data {percent(row.anchors.reproduced)}{found}  "
        f"({format_duration(row.training_seconds)} + {format_duration(row.search_seconds)})"
    )
    return Event(work=ROUNDS, name=name, done=row.number + 1, values=values, text=text, source=row)


def retraining_config(first: TrainConfig, seed: int) -> TrainConfig:
    """The configuration of a retraining: one epoch over the drawn data, no ramp of the KL weight, last weights kept."""
    params = {key: value for key, value in first.method.params.items() if key not in RAMP_PARAMETERS}
    protocol = dataclasses.replace(first.protocol, epochs=1, patience=0, monitor="last")
    data = dataclasses.replace(first.data, task=IN_MEMORY)
    chosen = method(first.method.name, **params, anneal=0.0)
    return dataclasses.replace(first, method=chosen, protocol=protocol, data=data, seed=seed)
