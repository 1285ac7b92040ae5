# What an iteration costs. Every job takes all cores, so that none runs beside another: Snakemake lowers this number to
# those of the machine. (workflow.cores is not known on a cluster, whose profiles set threads of their own.)
ALL_CORES = 1000
BENCH = {
    "full": {"tasks": "1 3 9 29 49 99 149 249", "repeats": 9, "iterations": 60, "packs": "1 2 4 8 20"},
    "quick": {"tasks": "1 9 99", "repeats": 3, "iterations": 20, "packs": "1 2"},
}[config["bench_variant"]]
# What is measured of training iterations: experiment and arguments of measure_iteration_cost.py.
ITERATIONS = {
    "pair_split": ("split_mnist", "--methods hnet_ent fine_tune"),
    "pair_permuted": ("permuted_mnist", "--methods hnet_ent fine_tune"),
    "methods_split": ("split_mnist", "--fisher"),
    "methods_split_all": ("split_mnist", "--scenario all"),
    "methods_permuted": ("permuted_mnist", ""),
    "packs_split": ("split_mnist", f"--methods hnet_ent fine_tune --tasks 2 --packs {BENCH['packs']}"),
    "packs_permuted": ("permuted_mnist", f"--methods hnet_ent fine_tune --tasks 2 --packs {BENCH['packs']}"),
}
if config["bench_variant"] == "quick":
    del ITERATIONS["methods_split_all"]
    ITERATIONS["methods_permuted"] = ("permuted_mnist", "--tasks 2")


localrules:
    summarise_benchmark,
    plot_fresh_benchmark,
    bench,


rule bench:
    input:
        "results/benchmarks/summary.md",
        "results/benchmarks/benchmark.png",
    message:
        "Measured: see {input}"


rule measure_regulariser:
    output:
        "results/benchmarks/regulariser.csv",
    log:
        "results/logs/bench/regulariser.log",
    conda:
        "../../envs/train.yaml"
    threads: ALL_CORES
    resources:
        gpu=int(config["device"] == "cuda"),
        mem_mb=16000,
        runtime=60,
    params:
        experiments=[f"config/experiments/{e}.yaml" for e in ("split_mnist", "permuted_mnist", "permuted_mnist_100")],
        tasks=BENCH["tasks"],
        repeats=BENCH["repeats"],
        used=config["bench_threads"],
        device=config["device"],
    message:
        "Measuring the output regulariser, explicit and exact"
    shell:
        "python workflow/scripts/measure_regulariser.py --experiments {params.experiments} --tasks {params.tasks}"
        " --repeats {params.repeats} --threads {params.used} --device {params.device} --output {output} > {log} 2>&1"


rule measure_iteration_cost:
    output:
        "results/benchmarks/{measurement}.csv",
    log:
        "results/logs/bench/{measurement}.log",
    wildcard_constraints:
        measurement="|".join(ITERATIONS),
    conda:
        "../../envs/train.yaml"
    threads: ALL_CORES
    resources:
        gpu=int(config["device"] == "cuda"),
        mem_mb=8000,
        runtime=60,
    params:
        experiment=lambda wildcards: ITERATIONS[wildcards.measurement][0],
        what=lambda wildcards: ITERATIONS[wildcards.measurement][1],
        iterations=BENCH["iterations"],
        used=config["bench_threads"],
        device=config["device"],
    message:
        "Measuring training iterations ({wildcards.measurement})"
    shell:
        "python workflow/scripts/measure_iteration_cost.py --experiment config/experiments/{params.experiment}.yaml"
        " {params.what} --iterations {params.iterations} --threads {params.used} --device {params.device}"
        " --output {output} > {log} 2>&1"


rule measure_limit:
    output:
        "results/benchmarks/limit.csv",
    log:
        "results/logs/bench/limit.log",
    conda:
        "../../envs/train.yaml"
    threads: ALL_CORES
    resources:
        gpu=int(config["device"] == "cuda"),
        mem_mb=8000,
        runtime=30,
    params:
        experiments=[f"config/experiments/{e}.yaml" for e in ("split_mnist", "permuted_mnist")],
        iterations=BENCH["iterations"],
        used=config["bench_threads"],
        device=config["device"],
    message:
        "Measuring HNET's iteration against what the machine could do"
    shell:
        "python workflow/scripts/measure_limit.py --experiments {params.experiments} --iterations {params.iterations}"
        " --threads {params.used} --device {params.device} --output {output} > {log} 2>&1"


rule measure_peers:
    input:
        dataset="results/datasets/mnist.npz" if peers() else [],
    output:
        "results/benchmarks/peers.csv",
    log:
        "results/logs/bench/peers.log",
    conda:
        "../../envs/train.yaml"
    threads: ALL_CORES
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        peers=peers(),
        used=config["bench_threads"],
        dataset=lambda wildcards, input: f"--dataset {input.dataset}" if input else "",
    message:
        "Measuring other repositories beside this one"
    shell:
        "python workflow/scripts/measure_peers.py {params.dataset} {params.peers} --threads {params.used}"
        " --output {output} > {log} 2>&1"


rule summarise_benchmark:
    input:
        regulariser="results/benchmarks/regulariser.csv",
        pair=[f"results/benchmarks/{name}.csv" for name in ITERATIONS if name.startswith("pair_")],
        methods=[f"results/benchmarks/{name}.csv" for name in ITERATIONS if name.startswith("methods_")],
        packs=[f"results/benchmarks/{name}.csv" for name in ITERATIONS if name.startswith("packs_")],
        limit="results/benchmarks/limit.csv",
        peers="results/benchmarks/peers.csv",
        script="workflow/scripts/summarise_benchmark.py",
    output:
        summary="results/benchmarks/summary.json",
        markdown="results/benchmarks/summary.md",
    log:
        "results/logs/bench/summary.log",
    conda:
        "../../envs/results.yaml"
    params:
        used=config["bench_threads"],
    message:
        "Summing up the benchmark"
    shell:
        "python {input.script} --regulariser {input.regulariser} --pair {input.pair} --methods {input.methods}"
        " --packs {input.packs} --limit {input.limit} --peers {input.peers} --threads {params.used}"
        " --summary {output.summary} --markdown {output.markdown} > {log} 2>&1"


# Measured on other machines and days than the rest.
rule compare_iterations:
    input:
        measured="results/cached/benchmark/{measurement}.csv",
        script="workflow/scripts/compare_iterations.py",
        code=RESULTS_CODE,
    output:
        table="results/tables/{measurement}.csv",
        markdown="results/tables/{measurement}.md",
    log:
        "results/logs/bench/{measurement}.log",
    wildcard_constraints:
        measurement="gpu_packs|long_sequences",
    conda:
        "../../envs/results.yaml"
    params:
        columns=lambda wildcards: {
            "gpu_packs": "--by seeds_in_pack --ratio 20 1",
            "long_sequences": "--by task --ratio 100 10",
        }[wildcards.measurement],
    message:
        "Making the table of iterations ({wildcards.measurement})"
    shell:
        "python {input.script} --measured {input.measured} {params.columns}"
        " --csv {output.table} --markdown {output.markdown} > {log} 2>&1"


rule plot_benchmark:
    input:
        regulariser="results/cached/benchmark/regulariser.csv",
        summary="results/cached/benchmark/summary.json",
        script="workflow/scripts/plot_benchmark.py",
        code=RESULTS_CODE,
    output:
        png=report(
            "results/figures/benchmark.png",
            caption="../report/benchmark.rst",
            category=report_chapter("cost"),
            labels={"artefact": "time and memory against the number of tasks"},
        ),
        pdf="results/figures/benchmark.pdf",
    log:
        "results/logs/bench/figure.log",
    conda:
        "../../envs/results.yaml"
    message:
        "Drawing the cost of the output regulariser"
    shell:
        "python {input.script} --regulariser {input.regulariser} --summary {input.summary}"
        " --png {output.png} --pdf {output.pdf} > {log} 2>&1"


use rule plot_benchmark as plot_fresh_benchmark with:
    input:
        regulariser="results/benchmarks/regulariser.csv",
        summary="results/benchmarks/summary.json",
        script="workflow/scripts/plot_benchmark.py",
        code=RESULTS_CODE,
    output:
        png="results/benchmarks/benchmark.png",
        pdf="results/benchmarks/benchmark.pdf",
    log:
        "results/logs/bench/fresh_figure.log",
