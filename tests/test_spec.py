"""From configuration files to specifications."""

import copy
from dataclasses import replace

import pytest
import yaml

from conftest import PERMUTED, REPOSITORY, SETTINGS
from hnetcl.spec import ConfigurationError, experiment_names, load_experiment, load_experiments

EXPERIMENTS = sorted((REPOSITORY / "config" / "experiments").glob("*.yaml"))


SHIPPED = [
    REPOSITORY / "config" / "experiments" / f"{name}.yaml" for path in EXPERIMENTS for name in experiment_names(path)
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_experiment_resolves_for_every_seed(path):
    experiment = load_experiment(path)
    trainings = list(experiment.trainings())
    hashes = {experiment.spec(*pair, seed).hash for pair in trainings for seed in experiment.seeds}
    assert len(hashes) == len(trainings) * len(experiment.seeds)


def test_there_are_experiments_to_ship():
    assert {"split_mnist", "permuted_mnist"} <= {path.stem for path in EXPERIMENTS}


# paper.md section 9
PUBLISHED = {
    "split_mnist": ("split", 5, [400, 400], 96, 96, [10, 10], "relu", 42_000, 0.01, 1e-3, 2000),
    "permuted_mnist": ("permuted", 10, [1000, 1000], 24, 8, [25, 25], "elu", 78_000, 0.1, 1e-4, 5000),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_experiments_have_the_published_settings(name):
    spec = load_experiment(REPOSITORY / "config" / "experiments" / f"{name}.yaml").spec("hnet_ent", "cl1-cl3", 1)
    network, regulariser = spec.settings["hypernetwork"], spec.settings["regulariser"]
    assert PUBLISHED[name] == (
        spec.sequence.kind,
        spec.sequence.tasks,
        list(spec.target.hidden),
        network["task_embedding"],
        network["chunk_embedding"],
        network["hidden"],
        network["activation"],
        network["chunk_size"],
        regulariser["beta"],
        spec.optimisation.learning_rate,
        spec.optimisation.iterations,
    )
    assert spec.optimisation.batch_size == 128
    assert list(spec.optimisation.betas) == [0.9, 0.999]
    assert spec.optimisation.epsilon == 1e-8
    assert (regulariser["tasks"], regulariser["outputs"]) == ("all", "all")
    assert spec.settings["inference_temperature"] == 1


# ---- what is refused ----------------------------------------------------------------------------------------------

NO_METHOD = {"methods": {"magic": {"scenarios": ["cl1"]}}}
HNET = "methods.hnet_ent"
REFUSED = {
    "unknown key": ({"optimisation.momentum": 0.9}, ["optimisation", "'momentum'", "learning_rate", "batch_size"]),
    "unknown key at the top": ({"data": 1}, ["'data'", "dataset", "sequence"]),
    "text for a number": ({"optimisation.iterations": "many"}, ["optimisation.iterations", "'many'", "integer"]),
    "fraction for a count": ({"optimisation.iterations": 10.5}, ["optimisation.iterations", "10.5", "integer"]),
    "number for a list": ({"target.hidden": 100}, ["target.hidden", "100", "array"]),
    "truth for a number": ({"optimisation.batch_size": True}, ["optimisation.batch_size", "True", "integer"]),
    "number for truth": (
        {"methods.joint.reset_optimiser": 1},
        ["methods.joint.reset_optimiser", "1", "boolean"],
    ),
    "zero iterations": ({"optimisation.iterations": 0}, ["optimisation.iterations", "0", "at least 1"]),
    "no learning rate": ({"optimisation.learning_rate": 0}, ["optimisation.learning_rate", "0", "more than 0"]),
    "learning rate that is no number": (
        {"optimisation.learning_rate": float("nan")},
        ["optimisation.learning_rate", "nan"],
    ),
    "infinite beta": ({f"{HNET}.regulariser.beta": float("inf")}, [f"{HNET}.regulariser.beta", "inf"]),
    "decay of one": ({"optimisation.betas": [0.9, 1.0]}, ["optimisation.betas.1", "1.0", "less than 1"]),
    "one decay": ({"optimisation.betas": [0.9]}, ["optimisation.betas", "[0.9]", "2"]),
    "unknown method": (NO_METHOD, ["methods", "'magic'", "hnet_ent", "fine_tune", "joint"]),
    "unknown scenario": (
        {"methods.joint.scenarios": ["cl1", "cl4"]},
        ["methods.joint.scenarios.1", "'cl4'", "'cl1', 'cl2', 'cl3'"],
    ),
    "scenario twice": ({"methods.joint.scenarios": ["cl1", "cl1"]}, ["methods.joint.scenarios", "cl1", "once"]),
    "seed that is no integer": ({"seeds": [1, "two"]}, ["seeds.1", "'two'", "integer"]),
    "negative seed": ({"seeds": [-1]}, ["seeds.0", "-1", "at least 0"]),
    "seed twice": ({"seeds": [3, 3]}, ["seeds", "[3, 3]", "once"]),
    "no seed": ({"seeds": []}, ["seeds", "[]", "at least 1"]),
    "missing section": ({"target": None}, ["'target'"]),
    "missing key": ({"sequence.kind": None}, ["sequence", "'kind'"]),
    "missing key of a split": ({"sequence.classes_per_task": None}, ["sequence", "'classes_per_task'"]),
    "missing key of a permutation": (
        {"sequence": {"kind": "permuted", "tasks": 2, "assignment": "fixed"}},
        ["sequence", "'data_seed'", "'first_task'"],
    ),
    "unknown dataset": ({"dataset": "omniglot"}, ["dataset", "'omniglot'", "'digits', 'mnist'"]),
    "unknown activation": ({"target.activation": "tanh"}, ["target.activation", "'tanh'", "'relu'"]),
    "unknown form": (
        {f"{HNET}.regulariser.form": "fast"},
        [f"{HNET}.regulariser.form", "'fast'", "'auto', 'exact', 'explicit'"],
    ),
    "no number of tasks": (
        {f"{HNET}.regulariser.tasks": "some"},
        [f"{HNET}.regulariser.tasks", "'some'", "'all'", "integer"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named_with_file_key_value_and_what_is_allowed(write_experiment, case):
    changes, named = REFUSED[case]
    path = write_experiment(changes)
    with pytest.raises(ConfigurationError) as error:
        load_experiment(path)
    for part in (str(path), *named):
        assert part in str(error.value)


def test_a_learning_rate_that_yaml_reads_as_text_is_refused_with_the_way_to_write_it(tmp_path):
    path = tmp_path / "text.yaml"
    path.write_text(yaml.safe_dump(SETTINGS).replace("learning_rate: 0.01", "learning_rate: 1e-3"))
    with pytest.raises(ConfigurationError) as error:
        load_experiment(path)
    for part in (str(path), "optimisation.learning_rate", "'1e-3'", "number", "1.0e-3"):
        assert part in str(error.value)


def test_all_errors_of_a_file_are_named_at_once(write_experiment):
    with pytest.raises(ConfigurationError) as error:
        load_experiment(write_experiment({"dataset": "omniglot", "optimisation.iterations": 0, "seeds": [-1]}))
    for key in ("dataset", "optimisation.iterations", "seeds.0"):
        assert key in str(error.value)


@pytest.mark.parametrize("key", ["optimisation.iterations", "seeds"])
def test_a_count_written_with_a_point_is_refused_or_becomes_an_integer(write_experiment, key):
    path = write_experiment({key: [2.0] if key == "seeds" else 2.0})
    try:
        experiment = load_experiment(path)
    except ConfigurationError as error:
        assert key in str(error)
    else:
        spec = experiment.spec("joint", "cl1", experiment.seeds[0])
        assert isinstance(spec.optimisation.iterations, int) and isinstance(spec.seed, int)


@pytest.mark.parametrize("content", ["", "[1, 2]", "title: [", "\tx: 1"], ids=["empty", "list", "open", "tab"])
def test_a_file_that_is_no_experiment_is_named(tmp_path, content):
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"broken\.yaml"):
        load_experiment(path)


def test_a_missing_file_is_named_with_those_that_are_there(write_experiment):
    path = write_experiment()
    with pytest.raises(ConfigurationError) as error:
        load_experiment(path.with_name("typo.yaml"))
    for part in (str(path.with_name("typo.yaml")), "tiny"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    "method, training", [("magic", "cl1"), ("hnet_ent", "cl1"), ("fine_tune", "cl1-cl3"), ("joint", "cl4")]
)
def test_a_training_the_experiment_lacks_is_refused_with_those_it_has(write_experiment, method, training):
    with pytest.raises(ConfigurationError) as error:
        load_experiment(write_experiment()).spec(method, training, 1)
    for part in ("tiny", f"{method}/{training}", "hnet_ent/cl1-cl3", "hnet_ent/cl2", "fine_tune/cl3", "joint/cl1"):
        assert part in str(error.value)


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True, None])
def test_a_seed_that_is_no_natural_number_is_refused(write_experiment, seed):
    with pytest.raises(ConfigurationError) as error:
        load_experiment(write_experiment()).spec("joint", "cl1", seed)
    for part in ("seed", repr(seed), "integer"):
        assert part in str(error.value)


# ---- trainings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scenarios, trainings",
    [
        (["cl1", "cl2", "cl3"], ["cl1-cl3", "cl2"]),
        (["cl3", "cl1"], ["cl1-cl3"]),
        (["cl3"], ["cl3"]),
        (["cl2"], ["cl2"]),
    ],
)
def test_one_hypernetwork_serves_cl1_and_cl3(write_experiment, scenarios, trainings):
    experiment = load_experiment(write_experiment({"methods.hnet_ent.scenarios": scenarios}))
    assert [training for method, training in experiment.trainings() if method == "hnet_ent"] == trainings
    served = experiment.spec("hnet_ent", trainings[0], 1).scenarios
    assert list(served) == trainings[0].split("-")


def test_the_bounds_train_each_scenario_by_itself(write_experiment):
    experiment = load_experiment(write_experiment())
    for bound in ("fine_tune", "joint"):
        assert [t for m, t in experiment.trainings() if m == bound] == ["cl1", "cl2", "cl3"]


# ---- experiments that extend others --------------------------------------------------------------------------------


@pytest.fixture
def write_extension(write_experiment):
    """Write an experiment file that extends the tiny one."""

    def write(content, name="longer"):
        path = write_experiment().with_name(f"{name}.yaml")
        path.write_text(yaml.safe_dump({"extends": "tiny", "title": "Longer"} | content))
        return path

    return write


def test_an_extension_is_the_other_experiment_with_its_changes(write_extension):
    path = write_extension(
        {
            "methods": ["joint", "hnet_ent"],
            "seeds": [4],
            "published_as": "Tiny",
            "changes": {"optimisation.iterations": 30, "methods.hnet_ent.regulariser.beta": 0.5},
        }
    )
    experiment, base = load_experiment(path), load_experiment(path.with_name("tiny.yaml"))
    assert (experiment.name, experiment.title, experiment.published_as) == ("longer", "Longer", "Tiny")
    assert experiment.seeds == [4] and list(experiment.settings["methods"]) == ["joint", "hnet_ent"]
    expected = copy.deepcopy(base.spec("hnet_ent", "cl2", 4).as_dict())
    expected["optimisation"]["iterations"], expected["settings"]["regulariser"]["beta"] = 30, 0.5
    expected |= {"experiment": "longer", "title": "Longer"}
    assert experiment.spec("hnet_ent", "cl2", 4).as_dict() == expected
    assert [file.name for file in experiment.files] == ["longer.yaml", "tiny.yaml"]


def test_runs_can_stand_in_only_for_those_of_the_experiment_that_is_extended(write_extension):
    with pytest.raises(ConfigurationError, match=r"published_as = 'SplitCIFAR' is not allowed. Allowed: 'Tiny'"):
        load_experiment(write_extension({"published_as": "SplitCIFAR"}))


def test_every_variant_is_an_experiment_of_its_own(write_extension, monkeypatch):
    path = write_extension(
        {
            "changes": {"optimisation.batch_size": 4},
            "variants": {
                "as-is": {"title": "as it is"},
                "iterations-40": {"title": "40 iterations", "changes": {"optimisation.iterations": 40}},
            },
        }
    )
    assert experiment_names(path) == ["longer/as-is", "longer/iterations-40"]
    loaded = load_experiments(path.parent, ["longer"])
    assert list(loaded) == experiment_names(path)
    monkeypatch.chdir(path.parent)
    assert load_experiment("tiny.yaml").settings == load_experiment(path.with_name("tiny.yaml")).settings
    first, second = loaded.values()
    assert (first.name, second.title) == ("longer/as-is", "Longer, 40 iterations")
    assert [e.spec("joint", "cl1", 1).optimisation.iterations for e in (first, second)] == [20, 40]
    assert [e.spec("joint", "cl1", 1).optimisation.batch_size for e in (first, second)] == [4, 4]
    with pytest.raises(ConfigurationError, match=r"variant = 'typo'.*as-is, iterations-40"):
        load_experiment(path.parent / "longer" / "typo.yaml")
    with pytest.raises(ConfigurationError, match=r"variant = None.*as-is, iterations-40"):
        load_experiment(path)


@pytest.mark.parametrize(
    "content, named",
    [
        ({"change": {}}, ["'change'", "changes", "variants"]),
        ({"changes": {"optimisation.momentum": 1}}, ["optimisation", "unknown key 'momentum'", "learning_rate"]),
        ({"changes": {"speed.iterations": 1}}, ["speed.iterations", "'tiny' does not have"]),
        (
            {"methods": ["joint"], "changes": {"methods.fine_tune": {"scenarios": ["cl1"]}}},
            ["methods.fine_tune", "'tiny' does not have"],
        ),
        ({"changes": {"optimisation.iterations": 0}}, ["optimisation.iterations", "at least 1"]),
        ({"changes": {"sequence.tasks": 6}}, ["sequence.tasks = 6", "at most 10"]),
        ({"methods": ["magic"]}, ["magic", "hnet_ent"]),
        ({"extends": "typo"}, ["typo.yaml", "tiny"]),
    ],
)
def test_what_an_extension_gets_wrong_is_named(write_extension, content, named):
    path = write_extension(content)
    with pytest.raises(ConfigurationError) as error:
        load_experiment(path)
    for part in named:
        assert part in str(error.value)


@pytest.mark.parametrize("place", ["methods.hnet_ent", "methods.hnet_r.replay"])
def test_a_reference_that_needs_a_look_ahead_is_refused_without_one(write_experiment, place):
    changes = {f"{place}.regulariser.reference": "present", f"{place}.regulariser.look_ahead": False}
    with pytest.raises(ConfigurationError, match=rf"{place}\.regulariser\.look_ahead = False goes with"):
        load_experiment(write_experiment(changes))


def test_a_decoder_has_no_head_to_hold(write_experiment):
    with pytest.raises(ConfigurationError, match=r"methods\.hnet_r\.replay\.regulariser\.outputs = 'own_head'"):
        load_experiment(write_experiment({"methods.hnet_r.replay.regulariser.outputs": "own_head"}))


ANEW = SETTINGS["methods"]["hnet_ent"]["hypernetwork"] | {"restart": True}
RESTART = {"methods.hnet_ent.hypernetwork": ANEW, "methods.hnet_ent.regulariser.beta": 0.0}
CL1 = {"methods.hnet_ent.scenarios": ["cl1"]}


def test_a_hypernetwork_may_start_anew_with_every_task_where_no_earlier_network_is_needed(write_experiment):
    load_experiment(write_experiment(RESTART | CL1))


@pytest.mark.parametrize(
    ("place", "changes"),
    [
        ("methods.hnet_ent", RESTART),  # in CL3 too, where lost networks would answer
        ("methods.hnet_ent", RESTART | CL1 | {"methods.hnet_ent.regulariser.beta": 0.1}),
        ("methods.hnet_tir", {"methods.hnet_tir.hypernetwork": ANEW}),
        ("methods.hnet_r.replay", {"methods.hnet_r.replay.hypernetwork.restart": True}),
    ],
)
def test_a_hypernetwork_that_starts_anew_is_refused_where_earlier_networks_are_needed(write_experiment, place, changes):
    with pytest.raises(ConfigurationError, match=rf"{place}\.hypernetwork\.restart = True loses"):
        load_experiment(write_experiment(changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"sequence": PERMUTED | {"augmentation": "crop_and_flip"}},
            "sequence.augmentation does not go with sequence.kind = permuted",
        ),
        ({"sequence.padding": 2, "target": {"kind": "resnet", "units": 1}}, "sequence.padding = 2 does not go with"),
    ],
)
def test_what_needs_pixels_in_their_place_is_refused_where_they_are_not(write_experiment, changes, named):
    with pytest.raises(ConfigurationError, match=named):
        load_experiment(write_experiment({"dataset": "cifar10_jpeg"} | changes))


def test_one_class_a_task_is_refused_for_methods_that_learn_within_tasks(write_experiment):
    with pytest.raises(ConfigurationError, match=r"classes_per_task = 1 leaves methods\.hnet_ent nothing"):
        load_experiment(write_experiment({"sequence.classes_per_task": 1}))


def test_a_condition_that_is_too_narrow_for_the_tasks_is_refused(write_experiment):
    with pytest.raises(ConfigurationError, match=r"methods\.hnet_r\.replay\.condition = 1 .* at least 2"):
        load_experiment(write_experiment({"methods.hnet_r.replay.condition": 1}))


# ---- hashes -------------------------------------------------------------------------------------------------------


def changed(value):
    """Another valid value of the same kind."""
    others = {
        "relu": "sigmoid", "elu": "sigmoid", "exact": "explicit", "all": 1, "fixed": "per_seed", "identity": "permuted"
    }  # fmt: skip
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.5
    if isinstance(value, list):
        return [*value[:-1], changed(value[-1])]
    return others[value]


def leaves(settings, prefix=""):
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def hyper_parameters():
    settings = copy.deepcopy(SETTINGS)
    settings["sequence"] = PERMUTED | {"padding": 1}
    for key, value in leaves({k: settings[k] for k in ("sequence", "target", "optimisation")}):
        if key != "sequence.kind":
            yield key, changed(value)
    for key, value in leaves(settings["methods"]["hnet_ent"]):
        if key == "regulariser.outputs":
            yield "methods.hnet_ent.regulariser.outputs", "own_head"
        elif key != "scenarios":
            yield f"methods.hnet_ent.{key}", changed(value)


@pytest.mark.parametrize("key, value", list(hyper_parameters()), ids=lambda x: x if isinstance(x, str) else "")
def test_the_hash_changes_with_every_hyper_parameter(make_spec, key, value):
    base = {"sequence": PERMUTED | {"padding": 1}}
    assert make_spec(changes=base).hash != make_spec(changes=base | {key: value}).hash


def test_the_hash_changes_with_the_sequence_the_dataset_the_training_and_the_seed(make_spec):
    specs = [
        make_spec(),
        make_spec(changes={"sequence": PERMUTED}),
        make_spec(changes={"sequence.classes_per_task": 3}),
        make_spec(changes={"dataset": "mnist"}),
        make_spec(training="cl2"),
        make_spec("joint", "cl1"),
        make_spec("fine_tune", "cl1"),
        make_spec(seed=2),
    ]
    assert len({spec.hash for spec in specs}) == len(specs)


def test_the_hash_does_not_change_with_names_in_tables_or_with_other_methods_and_seeds(make_spec):
    spec = make_spec()
    assert make_spec(changes={"title": "Another name"}).hash == spec.hash
    assert replace(spec, label="HNET").hash == spec.hash
    assert make_spec(changes={"seeds": [1, 2, 3], "methods.joint": None}).hash == spec.hash
    assert len(spec.hash) == 16


def test_the_specification_alone_is_enough_to_repeat_the_run(make_spec):
    spec = make_spec().as_dict()
    for section in ("sequence", "target", "optimisation"):
        assert spec[section] | SETTINGS[section] == spec[section]
    assert spec["settings"] | {"scenarios": ["cl1", "cl2", "cl3"]} == SETTINGS["methods"]["hnet_ent"]
    assert (spec["dataset"], spec["method"], spec["scenarios"], spec["seed"]) == (
        "digits",
        "hnet_ent",
        ["cl1", "cl3"],
        1,
    )
