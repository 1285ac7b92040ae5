"""From configuration files to run specifications: validated, resolved, hashed; data all the way.

A *training* is what one job does: (experiment, method, the scenarios it serves, seed) with every hyper-parameter.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from hnetcl.catalogue import METHODS

DATASET_CLASSES = {
    **dict.fromkeys(("digits", "mnist", "mnist_validation", "cifar10_jpeg"), 10),
    **dict.fromkeys(("cifar", "cifar_validation"), 60),
}
COLOURED = ("cifar", "cifar_validation", "cifar10_jpeg")
# Methods that can train a target network of any kind; the others are made for multi-layer perceptrons.
ANY_TARGET = ("hnet_ent", "si", "fine_tune", "joint")
SCHEMAS = Path(__file__).resolve().parents[3] / "config" / "schemas"


class ConfigurationError(ValueError):
    """A configuration that cannot be run; the message names file, key, value and what is allowed."""


@dataclass(frozen=True)
class SequenceSpec:
    """The sequence of tasks; keys as in ``experiment.schema.yaml``."""

    kind: str
    tasks: int
    assignment: str
    classes_per_task: int | None = None
    first_task: str | None = None
    data_seed: int | None = None
    padding: int = 0
    augmentation: str | None = None
    normalisation: str | None = None


@dataclass(frozen=True)
class TargetSpec:
    """The target network: hidden layers and activation of a perceptron, units a stage of a ResNet."""

    hidden: tuple[int, ...] | None = None
    activation: str | None = None
    kind: str | None = None
    units: int | None = None


@dataclass(frozen=True)
class OptimisationSpec:
    """Iterations or epochs a task, batch size and Adam's settings.

    ``schedule`` lists (epoch, factor): from that epoch on, counted from 0, the learning rate is multiplied by the
    factor.
    """

    batch_size: int
    learning_rate: float
    betas: tuple[float, float]
    epsilon: float
    iterations: int | None = None
    epochs: int | None = None
    schedule: tuple[tuple[int, float], ...] | None = None


_ABSENT_IF_UNUSED = {
    "sequence": ("augmentation", "normalisation"),
    "target": ("hidden", "activation", "kind", "units"),
    "optimisation": ("iterations", "epochs", "schedule"),
}


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides the result of a training, for one seed."""

    experiment: str
    title: str
    dataset: str
    sequence: SequenceSpec
    target: TargetSpec
    optimisation: OptimisationSpec
    method: str
    label: str
    training: str
    scenarios: tuple[str, ...]
    settings: Mapping[str, Any]
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """Return the specification as plain JSON data.

        Keys that only some experiments use are absent elsewhere, so that a new one leaves the hashes of old records.
        """
        content = json.loads(json.dumps(asdict(self)))
        for section, keys in _ABSENT_IF_UNUSED.items():
            for key in keys:
                if content[section][key] is None:
                    del content[section][key]
        return content

    @property
    def hash(self) -> str:
        """Hash of all that decides the numbers."""
        return specification_hash(self.as_dict())

    @property
    def folder(self) -> Path:
        """Folder of the training's files, below that of all records or checkpoints."""
        return Path(self.experiment, self.method, self.training)

    @property
    def record_name(self) -> str:
        """Name of the record's file in its folder."""
        return f"seed-{self.seed}.json"


@dataclass(frozen=True)
class Experiment:
    """One experiment of ``config/experiments``, validated.

    ``files`` are those that it is written in; ``published_as`` is the title of the experiment whose published methods
    it runs on the tasks that they were published with, None where it stands for itself. ``family`` is the title of the
    file that it is a variant of, None where it is none.
    """

    name: str
    settings: Mapping[str, Any]
    files: tuple[Path, ...]
    published_as: str | None = None
    family: str | None = None

    @property
    def title(self) -> str:
        """Name in tables and figures."""
        return self.settings["title"]

    @property
    def seeds(self) -> list[int]:
        """Seeds to run."""
        return list(self.settings["seeds"])

    def trainings(self) -> Iterator[tuple[str, str]]:
        """Yield (method, training), e.g. ("hnet_ent", "cl1-cl3"), for the scenarios that are asked for."""
        for method, settings in self.settings["methods"].items():
            for served in METHODS[method].trainings:
                if wanted := [scenario for scenario in served if scenario in settings["scenarios"]]:
                    yield method, "-".join(wanted)

    def spec(self, method: str, training: str, seed: int) -> RunSpec:
        """Resolve the specification of one training and seed.

        Raises:
            ConfigurationError: the experiment has no such method or training, or the seed is no integer >= 0.
        """
        available = list(self.trainings())
        if (method, training) not in available:
            allowed = ", ".join("/".join(pair) for pair in available)
            raise ConfigurationError(
                f"experiment '{self.name}' has no training '{method}/{training}'. Allowed: {allowed}."
            )
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise ConfigurationError(f"seed = {seed!r} is not allowed. Allowed: an integer >= 0.")
        settings = dict(self.settings["methods"][method])
        settings.pop("scenarios")
        sections = {key: self.settings[key] for key in ("sequence", "target", "optimisation")}
        return RunSpec(
            experiment=self.name,
            title=self.title,
            dataset=self.settings["dataset"],
            sequence=SequenceSpec(**sections["sequence"]),
            target=TargetSpec(**sections["target"]),
            optimisation=OptimisationSpec(**sections["optimisation"]),
            method=method,
            label=METHODS[method].label,
            training=training,
            scenarios=tuple(training.split("-")),
            settings=settings,
            seed=seed,
        )


def specification_hash(specification: Mapping[str, Any], *, without: tuple[str, ...] = ()) -> str:
    """Return the SHA-256 of a specification but for its names in tables (and the keys ``without``), 16 hex digits."""
    content = {key: value for key, value in specification.items() if key not in ("title", "label", *without)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def load_experiment(path: str | Path) -> Experiment:
    """Read and validate one experiment: a file, or ``<file without .yaml>/<variant>.yaml`` for a variant of one.

    Raises:
        ConfigurationError: the file or variant is missing, no YAML, or breaks its schema.
    """
    path = Path(path)
    variants_file = path.parent.parent / f"{path.parent.name}.yaml"
    if not path.exists() and variants_file.exists():
        return _extended(variants_file, path.stem)
    settings = _read_yaml(path)
    if isinstance(settings, dict) and "extends" in settings:
        return _extended(path, None)
    validate(settings, "experiment", path)
    _require_consistency(settings, path)
    return Experiment(path.stem, settings, (path,))


def experiment_names(path: str | Path) -> list[str]:
    """Return the names of the experiments in a file of ``config/experiments``: its own, or those of its variants."""
    path = Path(path)
    settings = _read_yaml(path)
    variants = settings.get("variants") if isinstance(settings, dict) else None
    return [f"{path.stem}/{variant}" for variant in variants] if isinstance(variants, dict) else [path.stem]


def load_experiments(folder: str | Path, files: Iterable[str]) -> "dict[str, Experiment]":
    """Load the experiments of ``files`` (names without ending) in ``folder``, by name, each variant as one of its own.

    Raises:
        ConfigurationError: as ``load_experiment`` does.
    """
    folder = Path(folder)
    names = [name for file in files for name in experiment_names(folder / f"{file}.yaml")]
    return {name: load_experiment(folder / f"{name}.yaml") for name in names}


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        names = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise ConfigurationError(
            f"experiment file '{path}' does not exist. Allowed in that directory: {names}."
        ) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"experiment file '{path}' is no YAML: {error}") from error


def _extended(path: Path, variant: str | None) -> Experiment:
    """Resolve an experiment that changes another one; ``variant`` is one of the file's, None if it has none."""
    extension = _read_yaml(path)
    validate(extension, "extension", path)
    variants = extension.get("variants", {})
    if (variant is None) != (not variants) or (variant is not None and variant not in variants):
        raise ConfigurationError(
            f"{path}: variant = {variant!r} is not allowed. Allowed: {', '.join(variants) or 'none, there are none'}."
        )
    own = variants.get(variant, {})
    base = load_experiment(path.with_name(f"{extension['extends']}.yaml"))
    settings = deepcopy(dict(base.settings))
    settings |= {key: extension[key] for key in ("dataset", "seeds", "title") if key in extension}
    if own:
        settings["title"] += f", {own['title']}"
    if "methods" in extension:
        unknown = [name for name in extension["methods"] if name not in settings["methods"]]
        if unknown:
            raise ConfigurationError(
                f"{path}: methods = {unknown} are not allowed. Allowed: {', '.join(settings['methods'])}, the methods "
                f"of '{extension['extends']}'."
            )
        settings["methods"] = {name: settings["methods"][name] for name in extension["methods"]}
    for key, value in {**extension.get("changes", {}), **own.get("changes", {})}.items():
        *sections, last = key.split(".")
        place = settings
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        # A key may have been left out; a section may not, or a method that was dropped would be back.
        if not isinstance(place, dict) or (isinstance(value, dict) and last not in place):
            raise ConfigurationError(
                f"{path}: changes has the key '{key}' of a section that '{extension['extends']}' does not have. "
                "Allowed: keys of its sections, joined by dots."
            )
        place[last] = value
    published_as = extension.get("published_as")
    if published_as not in (None, base.title):
        raise ConfigurationError(
            f"{path}: published_as = {published_as!r} is not allowed. Allowed: '{base.title}', the title of "
            f"'{extension['extends']}'."
        )
    validate(settings, "experiment", path)
    _require_consistency(settings, path)
    name = path.stem if variant is None else f"{path.stem}/{variant}"
    return Experiment(name, settings, (path, *base.files), published_as, extension["title"] if own else None)


def _require_consistency(settings: Mapping[str, Any], path: Path) -> None:
    """Raise ``ConfigurationError`` where keys do not go together, which no schema says."""

    def refuse(what: str, allowed: str) -> None:
        raise ConfigurationError(f"{path} is not a valid configuration:\n  {what}. Allowed: {allowed}.")

    sequence, target, optimisation = (settings[key] for key in ("sequence", "target", "optimisation"))
    dataset, classes = settings["dataset"], DATASET_CLASSES[settings["dataset"]]
    if sequence["kind"] == "split" and sequence["tasks"] * sequence["classes_per_task"] > classes:
        refuse(
            f"sequence.tasks = {sequence['tasks']} times sequence.classes_per_task = {sequence['classes_per_task']} is "
            f"{sequence['tasks'] * sequence['classes_per_task']} classes",
            f"at most {classes}, all that the dataset '{dataset}' has",
        )
    wants_colour = [
        f"{section}.{key}"
        for section, key in (("target", "kind"), ("sequence", "augmentation"), ("sequence", "normalisation"))
        if key in settings[section]
    ]
    if wants_colour and dataset not in COLOURED:
        refuse(
            f"dataset = '{dataset}' does not go with {wants_colour[0]}",
            f"{', '.join(COLOURED)}, whose images have 32 x 32 pixels in colour",
        )
    if sequence["kind"] == "permuted" and wants_colour and wants_colour[-1].startswith("sequence"):
        refuse(f"{wants_colour[-1]} does not go with sequence.kind = permuted: pixels are out of place", "kind: split")
    if "kind" in target and sequence.get("padding", 0):
        refuse(f"sequence.padding = {sequence['padding']} does not go with target.kind", "padding: 0")
    if "epochs" in optimisation and sequence["assignment"] == "per_seed":
        refuse(
            "optimisation.epochs goes with sequence.assignment = fixed alone: seeds would differ in their iterations",
            "optimisation.iterations",
        )
    special = [f"optimisation.{key}" for key in ("epochs", "schedule") if key in optimisation]
    special += ["target.kind"] * ("kind" in target)
    for method, own in settings["methods"].items():
        if special and method not in ANY_TARGET:
            refuse(f"methods.{method} does not go with {special[0]}", ", ".join(ANY_TARGET))
        if sequence.get("classes_per_task") == 1 and method in ("hnet_ent", "hnet_tir"):
            refuse(
                f"sequence.classes_per_task = 1 leaves methods.{method} nothing to learn within a task",
                "at least 2, or methods with one classifier for all tasks",
            )
        for place, section in ((f"methods.{method}", own), (f"methods.{method}.replay", own.get("replay", {}))):
            _require_protection(place, section, own["scenarios"], refuse)
        condition = own.get("replay", {}).get("condition")
        if condition is not None and condition < sequence["tasks"] - 1:
            refuse(
                f"methods.{method}.replay.condition = {condition} is too few",
                f"at least {sequence['tasks'] - 1}, sequence.tasks less one",
            )


def _require_protection(
    place: str, section: Mapping[str, Any], scenarios: Sequence[str], refuse: Callable[[str, str], None]
) -> None:
    """Refuse what cannot be meant of a hypernetwork and its regulariser, the keys of ``section`` at ``place``."""
    regulariser = section.get("regulariser", {})
    if not regulariser.get("look_ahead", True) and regulariser.get("reference", "snapshot") != "snapshot":
        refuse(
            f"{place}.regulariser.look_ahead = False goes with reference = snapshot alone: without a step ahead "
            "nothing has changed since 'present'",
            "reference: snapshot, or look_ahead: true",
        )
    if place.endswith(".replay") and regulariser.get("outputs", "all") != "all":
        refuse(f"{place}.regulariser.outputs = {regulariser['outputs']!r}: a decoder has no heads", "outputs: all")
    if section.get("hypernetwork", {}).get("restart", False) and (
        place != "methods.hnet_ent" or list(scenarios) != ["cl1"] or regulariser["beta"] != 0
    ):
        refuse(
            f"{place}.hypernetwork.restart = True loses the networks of earlier tasks",
            "in methods.hnet_ent alone, with scenarios: [cl1] and regulariser.beta: 0",
        )


def validate(settings: object, schema: str, source: str | Path) -> None:
    """Check ``settings``, read from ``source``, against ``config/schemas/<schema>.schema.yaml``.

    Raises:
        ConfigurationError: naming every offending key, its value, and what is allowed there.
    """
    errors = sorted(_validator(schema).iter_errors(settings), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        lines = "\n".join(f"  {_explain(error)}" for error in errors)
        raise ConfigurationError(f"{source} is not a valid configuration:\n{lines}")


# JSON Schema counts 10.0 as an integer, and Python knows NaN and infinity as numbers; neither is meant here.
StrictValidator = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
            "number": lambda _, value: (
                isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            ),
        }
    ),
)


@cache  # a schema takes longer to read than a hundred experiments to check
def _validator(schema: str) -> Draft202012Validator:
    return StrictValidator(yaml.safe_load((SCHEMAS / f"{schema}.schema.yaml").read_text()))


def _explain(error: ValidationError) -> str:
    """Say in one line which key has which value and what is allowed."""
    key = ".".join(map(str, error.absolute_path)) or "(top level)"
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = ", ".join(f"'{name}'" for name in error.instance if name not in known)
        return f"{key}: unknown key {unknown}. Allowed: {', '.join(known)}."
    if error.validator is None:  # forbidden by what other keys say; jsonschema gives the value alone, no key
        return f"{key}: the value {error.instance!r} does not go with the other keys there."
    if error.validator == "oneOf":
        names = " or ".join(name for branch in error.validator_value for name in branch["required"])
        return f"{key}: one key of {names} is needed, and not both."
    if error.validator == "required":
        missing = ", ".join(f"'{name}'" for name in error.validator_value if name not in error.instance)
        return f"{key}: missing key {missing}."
    described = error.schema.get("description", "").strip().rstrip(".")
    wanted = allowed(error.validator, error.validator_value) or error.message
    return f"{key} = {error.instance!r} is not allowed. Allowed: {wanted}" + (f" ({described})." if described else ".")


def allowed(keyword: str, value: Any) -> str | None:
    """Return in words what one keyword of a schema allows, None for those that never fail here."""
    match keyword:
        case "enum":
            return "one of " + ", ".join(map(repr, value))
        case "const":
            return repr(value)
        case "type":
            return f"a finite {value}" if value == "number" else f"a value of type {value}"
        case "minimum":
            return f"at least {value}"
        case "exclusiveMinimum":
            return f"more than {value}"
        case "maximum":
            return f"at most {value}"
        case "exclusiveMaximum":
            return f"less than {value}"
        case "minItems" | "minProperties":
            return f"at least {value} of them"
        case "maxItems":
            return f"at most {value} of them"
        case "uniqueItems":
            return "each value once"
        case "anyOf":
            return " or ".join(
                " and ".join(allowed(*pair) for pair in branch.items() if pair[0] != "description") for branch in value
            )
    return None


def trainings_of(experiments: Iterable[Experiment]) -> Iterator[tuple[Experiment, str, str]]:
    """Yield (experiment, method, training) of a collection's experiments.

    A method whose tasks were redrawn when it was published is left to the experiment that has it so (``published_as``).
    """
    experiments = list(experiments)
    replaced = {(e.published_as, method) for e in experiments for method in e.settings["methods"]}
    for experiment in experiments:
        for method, training in experiment.trainings():
            if (experiment.title, method) not in replaced:
                yield experiment, method, training


def require_distinct_titles(experiments: Iterable[Experiment]) -> None:
    """Raise ``ConfigurationError`` where two experiments would be one in tables."""
    first: dict[str, str] = {}
    for experiment in experiments:
        other = first.setdefault(experiment.title, experiment.name)
        if other != experiment.name:
            raise ConfigurationError(
                f"config/experiments/{experiment.name}.yaml: title = {experiment.title!r} is also that of "
                f"'{other}'. Allowed: a title of its own for every experiment."
            )
