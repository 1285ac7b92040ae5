# What the rules share: configuration, names of files, what a collection is made of.
import sys
import time
from pathlib import Path

import yaml

from snakemake.exceptions import WorkflowError

SCRIPTS = Path(workflow.basedir) / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from hnetcl.cost import memory_limit_mb, time_limit_minutes
from hnetcl.files import require_writable
from hnetcl.spec import (
    ConfigurationError,
    load_experiment,
    load_experiments,
    require_distinct_titles,
    trainings_of,
    validate,
)

STARTED = time.time()
# A change to the code that turns records into tables and figures makes them anew; trainings are not repeated for it.
RESULTS_CODE = [
    f"workflow/scripts/hnetcl/{module}.py"
    for module in ["catalogue", "spec", "records", "measures", "verdicts", "tables", "figure_style"]
]


# One command for a run and for a pack of runs. What changes no number (device, checkpoints) stands under resources: a
# change of a parameter would repeat every training.
TRAIN_COMMAND = (
    "python workflow/scripts/train_run.py"
    " --experiment config/experiments/{wildcards.experiment}.yaml"
    " --method {wildcards.method} --training {wildcards.training} --seeds {params.seeds}"
    " --dataset {input.dataset} --records {params.records} --checkpoints results/checkpoints"
    " --checkpoint-seconds {resources.checkpoint_seconds} --device {resources.device}"
    " --matmul-precision {resources.matmul_precision} --time-budget {resources.time_budget}"
    " --threads {threads} --log {log} --progress lines {params.manifest}"
)


def configured_experiments():
    """Validate the configuration and load every experiment it names, before any job starts."""
    try:
        validate(config, "config", "config/config.yaml (with --config)")
        files = {name for c in config["collections"].values() for name in c["experiments"]}
        experiments = load_experiments("config/experiments", sorted(files))
        require_distinct_titles(experiments.values())
        inferring = [name for name, e in experiments.items() if "hnet_ent" in e.settings["methods"]]
        drawing = [name for name, e in experiments.items() if draws_digits(e)]
        for collection, settings in config["collections"].items():
            if "confidence_of" in settings:
                require_run(collection, "confidence_of", settings["confidence_of"], "hnet_ent", inferring)
            for name in settings.get("samples_of", []):
                require_run(collection, "samples_of", name, "hnet_r", drawing)
            if settings.get("layout") in ("variants", "values"):
                whole = [file for file in settings["experiments"] if file in experiments]  # variants: FILE/VARIANT
                if whole:
                    raise ConfigurationError(
                        f"config/config.yaml: collections.{collection}.layout = '{settings['layout']}' does not go with "
                        f"the experiment '{whole[0]}', which has no variants. Allowed: layout methods or tasks."
                    )
            if settings.get("layout") == "values":
                variant_values(collection, settings, experiments)
        # With task embeddings in a plane, which are looked at as a whole: the demo's and the paper's.
        planes = load_experiments("config/experiments", ["split_digits_plane", "split_mnist_plane"])
        return experiments, planes
    except ConfigurationError as error:
        raise WorkflowError(str(error)) from None


def require_run(collection, key, named, method, allowed):
    """Refuse an experiment to look into that is not among those ``allowed``, which run ``method``."""
    if named not in allowed:
        raise ConfigurationError(
            f"config/config.yaml: collections.{collection}.{key} = '{named}' is not allowed. Allowed: an experiment of "
            f"a collection that runs {method}, {', '.join(allowed)}."
        )


def draws_digits(experiment):
    """Whether it runs HNET+R with a replay model whose images are a sight: permuted pixels are none."""
    sequence, method = experiment.settings["sequence"], experiment.settings["methods"].get("hnet_r")
    return bool(method) and sequence["kind"] == "split" and sequence["tasks"] > 1 and not method.get("perfect_replay")


def variant_values(collection, settings, experiments):
    """Titles of the experiments of a collection with their number, None where it is the runs' compression."""
    key = settings.get("values_of")
    if key == "compression":
        return None
    values = {}
    for name, experiment in experiments.items():
        if Path(name).parts[0] not in settings["experiments"]:
            continue
        value = experiment.settings
        for part in (key or "").split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ConfigurationError(
                f"config/config.yaml: collections.{collection}.values_of = {key!r} is not allowed: it is {value!r} in "
                f"'{name}'. Allowed: compression, or a key that is a number above 0 in every experiment."
            )
        values[experiment.title] = value
    return values


def require_writable_results():
    """Stop before the first job where results cannot be written."""
    try:
        require_writable("results")
    except PermissionError as error:
        raise WorkflowError(str(error)) from None


EXPERIMENTS, PLANES = configured_experiments()
require_writable_results()

# What is no collection, because its measure is an error, a map or a time.
TOY_TABLES = ["results/tables/toy.md", "results/tables/toy.html", "results/tables/toy_verdicts.csv"]
TOY_FIGURES, DEMO_PLANE_FIGURES, PLANE_FIGURES, BENCHMARK_FIGURES = (
    [f"results/figures/{name}.{kind}" for kind in ("png", "pdf")]
    for name in ("toy", "split_digits_plane", "split_mnist_plane", "benchmark")
)


wildcard_constraints:
    collection="|".join(config["collections"]),
    experiment="|".join(EXPERIMENTS),
    method="[a-z_]+",
    training="cl[1-3](-cl[1-3])*",
    seed="0|[1-9][0-9]*",


def layout(name):
    """How a collection is set: methods beside published values, variants ranked, and so on."""
    return config["collections"][name].get("layout", "methods")


def collections_of(wanted):
    """Names of the collections of a layout, as a pattern."""
    return "|".join(name for name in config["collections"] if layout(name) == wanted) or "(?!)"


def collections_with(key):
    """Names of the collections that have a key, as a pattern."""
    return "|".join(name for name, settings in config["collections"].items() if key in settings) or "(?!)"


def collection_source(name):
    """cached or compute."""
    return config["collections"][name].get("results_source", config["results_source"])


def common_collections():
    """Collections that follow the common results_source; those with a source of their own are targets by name only."""
    return [name for name, c in config["collections"].items() if "results_source" not in c]


def collection_experiments(name):
    """Names of a collection's experiments; a file with variants stands for all of them."""
    files = config["collections"][name]["experiments"]
    return [e for file in files for e in EXPERIMENTS if e == file or e.startswith(f"{file}/")]


def collection_titles(name):
    """Experiments of a collection as they are called in tables, where those that redraw tasks are part of the others."""
    experiments = [EXPERIMENTS[e] for e in collection_experiments(name)]
    return list(dict.fromkeys(e.published_as or e.title for e in experiments))


def family_titles(name):
    """The same, where a file with variants counts as one."""
    experiments = [EXPERIMENTS[e] for e in collection_experiments(name)]
    return list(dict.fromkeys(e.published_as or e.family or e.title for e in experiments))


def variant_titles(name):
    """Titles of the variants of a collection's files, without those of the files; none where they have no variants."""
    titles = [
        e.title.removeprefix(f"{e.family}, ") for e in map(EXPERIMENTS.get, collection_experiments(name)) if e.family
    ]
    return list(dict.fromkeys(titles))


def published_titles(name):
    """Experiments of a collection that stand in for published cells of another one, as arguments of the scripts."""
    known = [EXPERIMENTS[e] for e in collection_experiments(name) if EXPERIMENTS[e].published_as]
    return [f"{e.title}={e.published_as}" for e in known]


def packs(seeds, size):
    """Cut a list of seeds into packs of at most ``size``."""
    return [seeds[i : i + size] for i in range(0, len(seeds), size)]


def trainings(name):
    """Yield (folder of records, pack of seeds) for every training job of a collection."""
    size = config["collections"][name]["seeds_per_job"]
    for experiment, method, training in trainings_of(EXPERIMENTS[e] for e in collection_experiments(name)):
        for seeds in packs(experiment.seeds, size):
            yield f"{experiment.name}/{method}/{training}", seeds


def training_outputs(wildcards):
    """What the training jobs of a collection leave: a record a seed, or a list of records a pack."""
    return [
        (
            f"results/runs/{folder}/seed-{seeds[0]}.json"
            if len(seeds) == 1
            else f"results/packs/{folder}/seeds-{'-'.join(map(str, seeds))}.txt"
        )
        for folder, seeds in trainings(wildcards.collection)
    ]


def records(wildcards):
    """Every record of a collection."""
    return [
        f"results/runs/{folder}/seed-{seed}.json" for folder, seeds in trainings(wildcards.collection) for seed in seeds
    ]


def report_chapter(name):
    """Chapter of the report, of a collection or of what is none; the report sorts them by their names."""
    chapters = [*common_collections(), "figure 2", "figure 4", "cost"]
    chapters += [collection for collection in config["collections"] if collection not in chapters]
    return f"{chapters.index(name) + 1:02d} {name.replace('_', ' ')}"


def collection_chapter(wildcards):
    """Chapter of the collection that an output belongs to."""
    return report_chapter(wildcards.collection)


def dataset_file(wildcards):
    """Prepared dataset of an experiment."""
    return f"results/datasets/{EXPERIMENTS[wildcards.experiment].settings['dataset']}.npz"


def runs_table(wildcards):
    """One row a run: from results/cached, which no rule makes, or from fresh records."""
    if collection_source(wildcards.collection) == "cached":
        return "results/cached/runs.csv"
    return f"results/tables/{wildcards.collection}_runs.csv"


def accuracy_table(wildcards):
    """One row an entry of the accuracy matrices: likewise."""
    if collection_source(wildcards.collection) == "cached":
        return "results/cached/accuracy.csv"
    return f"results/tables/{wildcards.collection}_accuracy.csv"


def collection_files(name):
    """The files that a collection is written in, and those that they extend."""
    return sorted({str(file) for e in collection_experiments(name) for file in EXPERIMENTS[e].files})


def confidence_experiment(wildcards):
    """The experiment of a collection whose networks' confidence is measured."""
    return EXPERIMENTS[config["collections"][wildcards.collection]["confidence_of"]]


def confidence_file(wildcards):
    """That measurement: cached, or from trainings of its own."""
    kind = "cached" if collection_source(wildcards.collection) == "cached" else "tables"
    return f"results/{kind}/{wildcards.collection}_confidence.csv"


def samples_files(wildcards):
    """Images drawn by the replay models of a collection: cached, or from trainings of those models alone."""
    folder = "cached/replay_samples" if collection_source(wildcards.collection) == "cached" else "samples"
    return [f"results/{folder}/{name}.npz" for name in config["collections"][wildcards.collection]["samples_of"]]


def first_training_hash(experiment, method, seeds):
    """Hash of the specifications that measurements beside the records train ``method`` with."""
    training = next(served for name, served in experiment.trainings() if name == method)
    return "-".join(experiment.spec(method, training, seed).hash for seed in seeds)


def experiment_files(name):
    """Files of a collection's experiments, variants by the path that names them."""
    return [f"config/experiments/{e}.yaml" for e in collection_experiments(name)]


def matrix_scenario(name):
    """The scenario whose accuracy matrices are drawn: the first that any method of the collection is run in."""
    experiments = [EXPERIMENTS[e] for e in collection_experiments(name)]
    methods = [method for e in experiments for method in e.settings["methods"].values()]
    return min(scenario for method in methods for scenario in method["scenarios"]).upper()


def variants(wildcards):
    """Arguments of compare_variants.py: the titles of files of variants, of each variant, of what the first extends."""
    first = EXPERIMENTS[collection_experiments(wildcards.collection)[0]]
    return {
        "titles": family_titles(wildcards.collection),
        "names": variant_titles(wildcards.collection),
        "published": load_experiment(first.files[1]).title,
    }


def values(wildcards):
    """Arguments of compare_values.py: the variants' title, what their number is called, and the numbers."""
    settings = config["collections"][wildcards.collection]
    numbers = variant_values(wildcards.collection, settings, EXPERIMENTS)
    if numbers is None:
        name = "ratio"
    else:  # of methods.online_ewc.strength.cl1, strength
        name = next(part for part in reversed(settings["values_of"].split(".")) if part not in ("cl1", "cl2", "cl3"))
    return {
        "title": family_titles(wildcards.collection),
        "name": name,
        "numbers": [f"{title}={number}" for title, number in (numbers or {}).items()],
    }


def table_files(name):
    """Tables of a collection."""
    ends = (".csv", "_verdicts.csv", ".md", ".html", ".tex") if layout(name) == "methods" else (".csv", ".md", ".html")
    return [f"results/tables/{name}{end}" for end in ends]


def figure_files(name):
    """Figures of a collection."""
    figures = ["final_accuracy", "accuracy_matrix"] if layout(name) == "methods" else [layout(name)]
    beside = {"samples_of": "replay_samples", "confidence_of": "confidence"}
    figures += [figure for key, figure in beside.items() if key in config["collections"][name]]
    return [f"results/figures/{name}_{figure}.{kind}" for figure in figures for kind in ("png", "pdf")]


def training_specs(wildcards):
    """Specifications of a training job, one a seed."""
    seeds = wildcards.seeds.split("-") if "seeds" in wildcards.keys() else [wildcards.seed]
    try:
        experiment = EXPERIMENTS[wildcards.experiment]
        return [experiment.spec(wildcards.method, wildcards.training, int(seed)) for seed in seeds]
    except ConfigurationError as error:
        raise WorkflowError(str(error)) from None


def training_hash(wildcards):
    """Hash of the specifications a training job stands for: a change of any hyper-parameter repeats the job."""
    return "-".join(spec.hash for spec in training_specs(wildcards))


def training_minutes(wildcards, attempt):
    """The time limit of a training job on a cluster."""
    return time_limit_minutes(training_specs(wildcards), attempt)


def training_memory(wildcards, attempt):
    """The memory limit of a training job on a cluster, in MB."""
    return memory_limit_mb(training_specs(wildcards), attempt)


def toy_table(name):
    """A table of the one-dimensional regression: cached or fresh."""
    return f"results/{'cached' if config['results_source'] == 'cached' else 'tables'}/{name}.csv"


def landscape_file(wildcards):
    """What was measured over the plane of task embeddings: cached or fresh, that of the demo always fresh."""
    cached = config["results_source"] == "cached" and wildcards.plane != "split_digits_plane"
    return f"results/{'cached' if cached else 'tables'}/{wildcards.plane}.npz"


def peers():
    """Other repositories that are there, as arguments of measure_peers.py."""
    wanted = config["peers"] if config["bench_variant"] == "full" else {}
    return [f"--{name.replace('_', '-')} {path}" for name, path in wanted.items() if Path(path).is_dir()]


def closing_words():
    """Name the tables and figures that this call made, and show the tables."""
    lines = [""]
    for name, collection in config["collections"].items():
        made = [
            path
            for path in map(Path, table_files(name) + figure_files(name))
            if path.exists() and path.stat().st_mtime >= STARTED
        ]
        if not made:
            continue
        lines.append(collection["title"])
        lines += [path.read_text() for path in made if path.suffix == ".md"]
        lines += ["Written:", *(f"  {path}" for path in made), ""]
    others = map(Path, TOY_TABLES + TOY_FIGURES + DEMO_PLANE_FIGURES + PLANE_FIGURES + BENCHMARK_FIGURES)
    if further := [path for path in others if path.exists() and path.stat().st_mtime >= STARTED]:
        lines += ["Further pictures and tables:", *(f"  {path}" for path in further), ""]
    return "\n".join(lines)
